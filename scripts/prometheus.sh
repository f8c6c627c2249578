#!/usr/bin/env bash
# The tests of alerts and of what dashboards ask Prometheus need its two programs. Unpack Debian's package into .tools, without
# installing anything: 19 MB, a second or two. Where that can't be done those tests are skipped, and say so.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=.tools/prometheus

if [ -x $folder/usr/bin/promtool ] && [ -x $folder/usr/bin/prometheus ]; then exit 0; fi
if command -v promtool >/dev/null && command -v prometheus >/dev/null; then exit 0; fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "no Debian here and no prometheus on PATH: tests that need it will be skipped" >&2
    exit 0
fi

echo "fetching Prometheus"
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
chmod 755 "$new" # apt downloads as a user of its own
fetch() (cd "$new" && apt-get download -qq prometheus >/dev/null 2>&1)
if ! fetch; then
    # The lists of packages may be missing or old; only root may read them anew. One source of several that fails is no end of it.
    if [ "$(id -u)" = 0 ]; then apt-get update -qq || true; elif sudo -n true 2>/dev/null; then sudo -n apt-get update -qq || true; fi
    fetch || { echo "apt-get could not download prometheus: tests that need it will be skipped" >&2; exit 0; }
fi
dpkg-deb --extract "$new"/prometheus_*.deb "$new/whole"
mkdir -p .tools
rm -rf $folder
mv "$new/whole" $folder # whole or not at all
