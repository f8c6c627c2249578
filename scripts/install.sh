#!/usr/bin/env bash
# Bring .venv to exactly what the given lock file says, then klinestream itself and its jars.
set -euo pipefail
lock=$1

by_uv() {
    # Compiled now, by all cores: otherwise the first start would, while somebody waits for the chart.
    .venv/bin/uv pip sync --native-tls --quiet --compile-bytecode --require-hashes --no-build-isolation "$lock"
}
by_pip() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation -r "$lock"
}

echo "installing $lock"
# uv takes seconds where pip takes minutes, but knows nothing of an index that pip is set up with.
if .venv/bin/python -m pip config list | grep -Eq "index|proxy"; then
    by_pip
else
    by_uv || { echo "uv could not install everything; trying with pip" >&2; by_pip; }
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
echo "fetching jars"
.venv/bin/python -m klinestream.stack.jars
