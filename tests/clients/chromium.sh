#!/usr/bin/env bash
# Makes sure that there is a Chromium, and links it as FILE:
#
#   tests/clients/chromium.sh FILE
#
# The one of the system; where there is none it is installed, if this is Debian or Ubuntu and we may.
set -euo pipefail

link="$1"

find_chromium() {
    command -v chromium || command -v chromium-browser || command -v google-chrome || command -v google-chrome-stable
}

if ! find_chromium >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "chromium.sh: no Chromium was found: install it, on Debian with \`apt-get install chromium\`" >&2
        exit 1
    fi
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null; } \
        || { echo "chromium.sh: the package \`chromium\` could not be installed: is there a network?" >&2; exit 1; }
fi
mkdir -p "$(dirname "${link}")"
ln -sf "$(find_chromium)" "${link}"
