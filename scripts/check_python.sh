#!/bin/sh
# Usage: check_python.sh PYTHON. One line and exit code 1 where this Python cannot make the virtual environment.

fail() { echo "make setup: $1" >&2; exit 1; }

command -v "$1" >/dev/null || fail "$1 not found: on Debian, apt-get install python3 python3-venv; or make setup PYTHON=/path/to/python3"

# TensorFlow 2.21 is built for these versions only.
"$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' ||
    fail "$1 is $("$1" --version 2>&1), but Python 3.10 to 3.13 is needed: make setup PYTHON=/path/to/python3.11"

# Debian takes ensurepip out of python3, and venv then leaves half an environment behind.
"$1" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$1 has no module venv: on Debian, apt-get install $("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
