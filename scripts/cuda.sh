#!/usr/bin/env bash
# Usage: cuda.sh PYTHON STAMP. On a machine with an NVIDIA GPU, installs the CUDA libraries for TensorFlow as wheels, and
# makes the file STAMP. Without a GPU it does nothing, so that a machine that gets its driver later is asked again.
set -euo pipefail

python=$1 stamp=$2
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Returns 3 where there is none; any other failure is an error of the program, which shows itself.
status=0
"$python" -c 'import sys; from dreamer import hardware; sys.exit(0 if hardware.nvidia_gpu() else 3)' || status=$?
[ "$status" -ne 3 ] || exit 0
[ "$status" -eq 0 ] || exit "$status"

version=$(sed -n 's/^tensorflow==\([^ ]*\).*/\1/p' requirements.txt)
echo "There is an NVIDIA GPU: installing the CUDA libraries of TensorFlow $version, some GB, a few minutes without a word."
"$python" -m pip --disable-pip-version-check install --quiet -r requirements.txt "tensorflow[and-cuda]==$version"
touch "$stamp"
