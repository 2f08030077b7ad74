#!/bin/sh
# Style sheets, icons and scripts under names that change with their content, into static-built/.
#   static.sh FOLDER       of install.sh
set -eu
cd "$(dirname "$0")/../.."
# Settings are not read without secrets. These end with the process.
GATEHOUSE_VAR=$(mktemp -d)
trap 'rm -rf "$GATEHOUSE_VAR"' EXIT
SECRET_KEY=$("$1/bin/python" -c 'import secrets; print(secrets.token_urlsafe(48))')
GATEHOUSE_KEK=$("$1/bin/python" -c 'import secrets; print(secrets.token_hex(32))')
export GATEHOUSE_VAR SECRET_KEY GATEHOUSE_KEK
"$1/bin/python" manage.py collectstatic --no-input --clear --verbosity 0
