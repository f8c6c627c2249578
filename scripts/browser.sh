#!/usr/bin/env bash
# The browser tests need a Chromium. Install Debian's where that is allowed, otherwise say what to install.
set -euo pipefail

for program in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$program" >/dev/null; then exit 0; fi
done
if [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]; then exit 0; fi

if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then
        as_root=()
    elif sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    else
        echo "the browser tests need Chromium: install it with 'sudo apt-get install chromium', and run make test again" >&2
        exit 1
    fi
    echo "installing Chromium"
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium >/dev/null
    exit 0
fi
echo "the browser tests need Chromium or Google Chrome: install one, so that 'chromium' or 'google-chrome' is on PATH, and run make test again" >&2
exit 1
