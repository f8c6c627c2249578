#!/usr/bin/env bash
# Make .venv with the first suitable one of the given Pythons, and in it what installs the rest.
set -euo pipefail

python=
seen=
for candidate in "$@"; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $version in
        3.11 | 3.12) python=$candidate && break ;;
        *) seen="$seen $candidate is $version;" ;;
    esac
done
if [ -z "$python" ]; then
    echo "klinestream needs Python 3.11 or 3.12, which Flink's Python packages are made for, but found:${seen:- none;}" >&2
    echo "install python3.12 (from your system, python.org, pyenv or uv), so that 'python3.12' starts it, and run make again" >&2
    exit 1
fi

echo "making .venv with $("$python" --version)"
if ! "$python" -m venv --clear .venv; then
    echo "$python can't make environments: on Debian and Ubuntu, install the package python$version-venv, and run make again" >&2
    exit 1
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
