#!/usr/bin/env bash
# Runs a command beside a server that speaks S3, with an empty bucket and a backup configuration that names it in BACKUP_CONFIG:
#
#   scripts/with-s3.sh scripts/scenarios.sh all-nodes
#
# The server is that of the tests and is built with them. It listens on the loopback only, keeps objects in a temporary directory, and
# ends with the command.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
dir="$(mktemp -d "${TMPDIR:-/var/tmp}/with-s3.XXXXXX")"
server=""

stop() {
    # It ends when its input does.
    exec 9>&- || true
    if [[ -n "$server" ]]; then wait "$server" || true; fi
    rm -rf "$dir"
}
trap stop EXIT

mkfifo "$dir/input"
(cd "$root" && RAFTKV_TEST_S3="$dir" exec cargo test --workspace --locked --test cli -- --ignored --exact s3::server --nocapture) \
    <"$dir/input" >"$dir/log" 2>&1 &
server=$!
exec 9>"$dir/input"
until [[ -e "$dir/ready" ]]; do
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$dir/log" >&2
        exit 1
    fi
    sleep 0.1
done
BACKUP_CONFIG="$dir/backup.yaml" "$@" 9>&-
