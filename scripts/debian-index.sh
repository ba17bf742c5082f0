#!/usr/bin/env bash
# Debian's package index as JSON lines that `raftkv-cli import` reads: some 60,000 keys, 50 MB.
#
#   scripts/debian-index.sh > packages.ndjson          this machine's index (apt-cache dumpavail)
#   scripts/debian-index.sh FILE > packages.ndjson     stanzas from a file; - is stdin
set -euo pipefail
program="$(dirname "$0")/debian-index.awk"

stanzas() {
    if [[ $# -gt 0 ]]; then cat -- "$1"; else apt-cache dumpavail; fi
}

stanzas "$@" | LC_ALL=C awk -f "$program"
