#!/usr/bin/env bash
# One disaster from start to end, with real processes: import into three nodes, kill -9 the leader in the middle, finish, take an
# encrypted backup, delete all three data directories, restore to a new three-node cluster, compare every key.
#
#   scripts/disaster-tour.sh          with this machine's Debian package index; generated keys where there is none
#   scripts/disaster-tour.sh FILE     with JSON lines {"key", "value"} of different keys
#
# Builds the binaries first; RAFTKV_BIN_DIR names others. Exits with 0 only if every key came back.
set -euo pipefail
work="$(mktemp -d "${TMPDIR:-/var/tmp}/disaster-tour.XXXXXX")"
source "$(dirname "$0")/cluster.sh"
require jq

cleanup() {
    local code=$?
    kill_nodes
    if [[ $code -eq 0 ]]; then rm -rf "$work"; else echo "what is left lies in $work" >&2; fi
}
trap cleanup EXIT
say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }

generated() {
    awk 'BEGIN {for (i = 0; i < 60000; i++) printf "{\"key\":\"generated/%06d\",\"value\":\"%064d\"}\n", i, i * i}'
}

count() { cli -o json get "" --prefix --count-only | jq .count; }

build_binaries
data="$work/data.ndjson"
if [[ $# -gt 0 ]]; then
    cp -- "$1" "$data"
elif ! { command -v apt-cache >/dev/null && "$root/scripts/debian-index.sh" >"$data" && [[ -s "$data" ]]; }; then
    generated >"$data"
fi
total=$(wc -l <"$data")
say "$total keys, $(wc -c <"$data") bytes"

for id in 1 2 3; do start_node $id "$work/old-$id" --initial-cluster "$(initial_cluster)"; done
wait_for_cluster
old_cluster=$(cli -o json status | jq -r .cluster_id)
say "cluster $old_cluster serves"

cli --timeout 60s import "$data" >"$work/import.log" 2>&1 &
import=$!
until [[ $(count) -gt $((total / 4)) ]]; do kill -0 $import; done
victim=$(leader)
kill_node "$victim"
say "leader $victim killed after $(count) keys"
wait $import || { cat "$work/import.log" >&2; exit 1; }
say "import finished without it: $(cat "$work/import.log")"
start_node "$victim" "$work/old-$victim"

"$bin/raftkv-cli" backup key generate "$work/backup.key" >/dev/null
cat >"$work/backup.yaml" <<YAML
provider:
  type: local
  local_path: $work/store
backup:
  compression: {enabled: true, type: gzip, level: 1}
  encryption: {enabled: true, type: aes-256-gcm, key_file: $work/backup.key}
YAML
cli --timeout 120s backup create --config "$work/backup.yaml" >/dev/null
say "encrypted backup: $(du -sh "$work/store" | cut -f 1)"

kill_nodes
rm -rf "$work"/old-*
say "all three nodes killed, all three data directories deleted"

new_cluster="" backup=latest
for id in 1 2 3; do
    answer=$("$bin/raftkv-cli" -o json backup restore --config "$work/backup.yaml" --backup "$backup" --db "$work/new-$id" --id $id \
        --initial-cluster "$(initial_cluster)" ${new_cluster:+--cluster-id "$new_cluster"})
    new_cluster=$(jq -r .cluster_id <<<"$answer") backup=$(jq -r .backup <<<"$answer")
done
[[ "$new_cluster" != "$old_cluster" ]]
for id in 1 2 3; do start_node $id "$work/new-$id"; done
wait_for_cluster
say "cluster $new_cluster serves"

cli --timeout 120s export "$work/restored.ndjson" >/dev/null
export LC_ALL=C
if ! cmp <(sort "$data") <(sort "$work/restored.ndjson"); then
    diff <(sort "$data") <(sort "$work/restored.ndjson") | cut -c -200 | head -n 20 >&2
    exit 1
fi
hashes=$(cli -o json status | jq -c '[.nodes[].state_hash] | unique | length')
say "$total keys compared, all equal; $hashes different state hash(es) on three nodes"
