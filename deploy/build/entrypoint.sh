#!/bin/sh
# What a container does: with arguments, that command (`migrate`, `key issue …`). Without: checks that the database is up to
# date, and serves. It never migrates by itself: of several containers that start at once, none should change tables.
set -eu
cd "$(dirname "$0")/../.."
[ $# -eq 0 ] || exec python manage.py "$@"
if ! said=$(python manage.py migrate --check 2>&1); then
    last=$(printf '%s\n' "$said" | tail -n 1)
    case $said in
        '') echo 'The database is not up to date: run this image once with the argument `migrate`.' >&2 ;;
        # What a driver says may name hosts and users; what kind of fault it is, is enough here.
        *Traceback*) echo "The database could not be asked whether it is up to date (${last%%:*}). Is DATABASE_URL right?" >&2 ;;
        *) echo "$last" >&2 ;;
    esac
    exit 1
fi
exec python manage.py serve
