#!/bin/sh
# The secrets that compose.yaml hands to its containers, each made once. Keep a copy of `kek` apart from the database: without
# it nothing that is sealed opens again, and with it and the database everything does.
#   make-secrets.sh [FOLDER]      by default, secrets/ beside this file
set -eu
folder=${1:-"$(dirname "$0")/secrets"}
# A container reads its secrets as a user of its own, so the files are open and the folder is not.
mkdir -p "$folder"
chmod 0700 "$folder"

random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
make() {
    [ -s "$folder/$1" ] || printf '%s\n' "$2" >"$folder/$1"
    chmod 0444 "$folder/$1"
}

make secret_key "$(random 32)"
make kek "$(random 32)"
make metrics_token "$(random 24)"
make postgres_password "$(random 24)"
make database_url "postgres://gatehouse:$(cat "$folder/postgres_password")@postgres:5432/gatehouse"
echo "Secrets are in $folder."
