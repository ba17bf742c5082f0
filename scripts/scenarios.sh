#!/usr/bin/env bash
# Three disasters and the way back from each, with real processes on loopback and the time that each recovery took:
#
#   scripts/scenarios.sh one-disk       a node loses its disk; the others go on; it joins anew and fills from them
#   scripts/scenarios.sh all-nodes      every node is lost; one command makes a new cluster from the backup that was made
#   scripts/scenarios.sh deleted-keys   keys are deleted by mistake; they come back from a backup into the live cluster
#   scripts/scenarios.sh                all three
#
# KEYS sets how many keys there are (20,000). Builds the binaries first; RAFTKV_BIN_DIR names others. Exits with 0 only if every key is there again.
# The store is a local directory; with BACKUP_CONFIG=FILE it is the one of that backup configuration, in which nothing may be yet under its prefix.
# The backup that was made goes again in the end. With S3, from a server that is started for it:
#
#   scripts/with-s3.sh scripts/scenarios.sh all-nodes
set -euo pipefail
work="$(mktemp -d "${TMPDIR:-/var/tmp}/scenarios.XXXXXX")"
source "$(dirname "$0")/cluster.sh"
require jq
keys="${KEYS:-20000}"

cleanup() {
    local code=$?
    kill_nodes
    if [[ $code -eq 0 ]]; then rm -rf "$work"; else echo "what is left lies in $work" >&2; fi
}
trap cleanup EXIT
say() { printf '  %s\n' "$*"; }
now_ms() { date +%s%3N; }
took() { say "$1: $(($(now_ms) - $2)) ms"; }
count() { cli -o json get "${1:-}" --prefix --count-only | jq .count; }
expect_count() { [[ $(count) -eq $keys ]] || { echo "$(count) keys instead of $keys" >&2; exit 1; }; }
voters() { cli -o json member list | jq '[.members[] | select(.role == "voter")] | length'; }
wait_for_voters() { until [[ $(voters 2>/dev/null) -eq $1 ]]; do sleep 0.1; done; }
# How often a member has begun without what its disk held before.
incarnation() { cli -o json member list | jq ".members[] | select(.id == $1 and .role == \"voter\") | .incarnation"; }

# Three nodes with empty directories below $work/$1, and the keys in them.
fresh_cluster() {
    kill_nodes
    for id in 1 2 3; do start_node $id "$work/$1-$id" --initial-cluster "$(initial_cluster)"; done
    wait_for_cluster
    awk -v keys="$keys" 'BEGIN {for (i = 0; i < keys; i++) printf "{\"key\":\"orders/%07d\",\"value\":\"%064d\"}\n", i, i * i}' >"$work/data.ndjson"
    cli --timeout 120s import "$work/data.ndjson" >/dev/null
    say "three nodes, $keys keys"
}

config=""
backup_configuration() {
    [[ -z "$config" ]] || return 0
    if [[ -n "${BACKUP_CONFIG:-}" ]]; then
        config="$BACKUP_CONFIG"
        expect_empty_store
        return
    fi
    config="$work/backup.yaml"
    "$bin/raftkv-cli" backup key generate "$work/backup.key" >/dev/null
    cat >"$config" <<YAML
provider: {type: local, local_path: $work/store}
backup:
  encryption: {enabled: true, type: aes-256-gcm, key_file: $work/backup.key}
YAML
}

# A drill's backup must not come among others: it would be the newest one there, and retention would count it.
expect_empty_store() {
    local listed code=0
    listed="$("$bin/raftkv-cli" -o json backup list --config "$config" 2>"$work/list.log")" || code=$?
    # A store that is not there is made by the first backup.
    [[ $code -ne 10 ]] || return 0
    [[ $code -eq 0 ]] || { cat "$work/list.log" >&2; exit "$code"; }
    if [[ $(jq '.backups + .strangers | length' <<<"$listed") -ne 0 ]]; then
        echo "$0: the store of $config is not empty: name a copy of that file with a prefix of its own, as in {backup: {prefix: drill-$RANDOM/}}" >&2
        exit 1
    fi
}

# Sets backup to the id of a new one.
make_backup() { backup="$(cli --timeout 120s -o json backup create --config "$config" | jq -r .id)"; }
delete_backup() { cli backup delete --config "$config" --backup "$backup" --force >/dev/null; }

one_disk() {
    echo "one-disk: a node loses its disk"
    fresh_cluster disk
    local victim started
    victim=$(($(leader) % 3 + 1))
    kill_node "$victim"
    rm -rf "$work/disk-$victim"
    say "node $victim killed, its data directory deleted; the others have $(count) keys"
    started=$(now_ms)
    start_node "$victim" "$work/disk-$victim" --join "$(address $((victim % 3 + 1)))"
    until [[ $(incarnation "$victim" 2>/dev/null) -eq 1 ]]; do sleep 0.1; done
    took "node $victim is a voter again, with all keys, after" "$started"
    # The node that had them before can go now: what the new one holds is needed.
    kill_node $((victim % 3 + 1))
    expect_count
}

all_nodes() {
    echo "all-nodes: every node is lost"
    backup_configuration
    fresh_cluster old
    make_backup
    kill_nodes
    rm -rf "$work"/old-*
    say "backup made in a store of type $(sed -n 's/.*type: *\([a-z0-9]*\).*/\1/p' "$config" | head -n 1); all nodes killed, all data directories deleted"
    local started
    started=$(now_ms)
    "$bin/raftkv-cli" cluster restore --config "$config" --backup "$backup" --db "$work/new-1" --initial-cluster "$(initial_cluster)" >/dev/null
    start_node 1 "$work/new-1"
    wait_for_cluster
    took "the new cluster serves after (recovery time)" "$started"
    for id in 2 3; do start_node $id "$work/new-$id" --join "$(address 1)"; done
    wait_for_voters 3
    took "it has three voters after" "$started"
    kill_node 1
    expect_count
    delete_backup
}

deleted_keys() {
    echo "deleted-keys: keys are deleted by mistake"
    backup_configuration
    fresh_cluster keys
    make_backup
    cli --timeout 120s del orders/0001 --prefix >/dev/null
    say "a backup was made, then keys were deleted: $(count) are left"
    local started
    started=$(now_ms)
    cli --timeout 120s backup restore-keys --config "$config" --backup "$backup" --prefix orders/ --rate 1000000 >/dev/null
    took "they are back after" "$started"
    expect_count
    [[ $(cli --timeout 120s -o json backup diff "$backup" --config "$config" | jq '.deleted + .changed + .added') -eq 0 ]]
    delete_backup
}

build_binaries
case "${1:-all}" in
one-disk) one_disk ;;
all-nodes) all_nodes ;;
deleted-keys) deleted_keys ;;
all)
    one_disk
    all_nodes
    deleted_keys
    ;;
*)
    sed -n '2,14p' "$0" | cut -c 3- >&2
    exit 2
    ;;
esac
