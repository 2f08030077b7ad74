#!/bin/sh
# What nobody needs who only runs it goes: installers, translations. What Python would write beside its sources is written
# now, because later nothing can be.
#   trim.sh FOLDER         of install.sh
set -eu
cd "$(dirname "$0")/../.."
packages=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "$packages"/pip "$packages"/pip-* "$packages"/setuptools "$packages"/setuptools-* "$packages"/pkg_resources "$1"/bin/pip*
find "$packages" -type d -name LC_MESSAGES -prune -exec rm -rf {} +
find "$packages" . -type d -name __pycache__ -prune -exec rm -rf {} +
"$1/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages" manage.py gateway keys providers tenants usage
