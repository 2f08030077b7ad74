#!/bin/sh
# The hot path, compiled (gateway/compiled.py), with tools that do not stay. Needs a C compiler and about three minutes.
#   compile.sh FOLDER      of install.sh
set -eu
cd "$(dirname "$0")/../.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$1/bin/python" -m pip --disable-pip-version-check --quiet install --no-cache-dir --only-binary :all: --require-hashes \
    --target "$tools" -r deploy/build/requirements-compile.lock
PYTHONPATH="$tools" "$1/bin/python" deploy/build/compile.py
