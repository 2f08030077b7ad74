#!/bin/sh
# The locked packages, by their hashes, in an environment of their own.
#   install.sh FOLDER      PYTHON=python3.11 chooses the interpreter
set -eu
cd "$(dirname "$0")/../.."
"${PYTHON:-python3}" -m venv "$1"
"$1/bin/python" -m pip --disable-pip-version-check --quiet install --no-cache-dir --no-compile --only-binary :all: \
    --require-hashes -r requirements.lock
