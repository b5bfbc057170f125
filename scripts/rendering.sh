#!/usr/bin/env bash
# Usage: rendering.sh PYTHON. Makes sure that an image can be rendered, and installs the Debian packages of OpenGL
# that are missing where it may: as root, or with sudo that asks for no password. Where rendering works, nothing is done.
set -euo pipefail

python=$1
# libopengl0: PyOpenGL loads it beside libegl1, which does not depend on it.
packages=(libegl1 libopengl0 libgl1-mesa-dri libosmesa6)

# Prints why nothing renders and returns 3; any other failure is an error of the program, which shows itself.
# Whatever MUJOCO_GL says in this shell: what is installed is for all.
probe() {
    MUJOCO_GL='' "$python" -c '
import sys
from dreamer.envs import core, rendering
try:
    rendering.choose()
except core.EnvError as error:
    print(error)
    sys.exit(3)
'
}

status=0
why=$(probe) || status=$?
[ "$status" -eq 3 ] || exit "$status"

installed() { [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
missing=()
if command -v apt-get >/dev/null; then
    for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
fi
if [ ${#missing[@]} -eq 0 ]; then
    echo "make setup: $why" >&2
    exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "make setup: rendering needs OpenGL; run: sudo apt-get install ${missing[*]}, then make setup again" >&2
        exit 1
    fi
    as_root=(sudo -n)
fi
echo "Installing ${missing[*]}, for rendering"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"

if ! why=$(probe); then
    echo "make setup: $why" >&2
    exit 1
fi
