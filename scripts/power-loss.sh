#!/usr/bin/env bash
# Power cuts of real nodes under load and on a bad network, as many rounds as asked for (1,000), with every history checked:
#
#   scripts/power-loss.sh [ROUNDS]
#
# Prints a line for every four rounds, and the seed first. Exits with 0 only if nothing acknowledged was lost.
set -euo pipefail
cd "$(dirname "$0")/.."
RAFTKV_KILL_ROUNDS="${1:-1000}" exec cargo test -p raftkv-node --test kill_loop --locked -- --nocapture
