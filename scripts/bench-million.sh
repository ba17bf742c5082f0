#!/usr/bin/env bash
# RaftKV with a million keys: three nodes on loopback, 100-byte values, fsync on. Measures import, snapshot, the latency of puts while
# no snapshot is written and while all three nodes write one, restart after kill -9 of all three, and memory. Prints a table.
#
#   scripts/bench-million.sh
#   KEYS=100000 ROUNDS=2 scripts/bench-million.sh        smaller
#   ETCD=1 scripts/bench-million.sh                      then etcd with as many keys, through scripts/bench-etcd.sh
#
# Puts with and without snapshots run in turn in one cluster, so that a machine that gets slower meanwhile does so for both. Snapshots are
# made on request only. Figures are medians of the rounds, the longest latency is the longest of all. Needs jq.
set -euo pipefail
PACKAGES="jq"
work="$(mktemp -d "${TMPDIR:-/var/tmp}/bench-million.XXXXXX")"
source "$(dirname "$0")/cluster.sh"
require jq ss

keys="${KEYS:-1000000}"
rounds="${ROUNDS:-5}"
client_counts=(1 16 64)
# Operations of a round for each number of clients: some seconds.
declare -A ops=([1]="${OPS_1:-4000}" [16]="${OPS_16:-40000}" [64]="${OPS_64:-60000}")
snapshots_pid=""

cleanup() {
    stop_snapshots
    kill_nodes
    rm -rf "$work"
}
trap cleanup EXIT

now_ms() { date +%s%3N; }
memory_mib() {
    local id
    for id in 1 2 3; do awk '/^VmRSS/ {printf "%d ", $2 / 1024}' "/proc/${pid_of[$id]}/status"; done
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
row() { printf '| %s | %s |\n' "$1" "$2"; }

start_all() {
    local id
    for id in 1 2 3; do
        RAFTKV_SNAPSHOT_ENTRIES=1000000000 RAFTKV_SNAPSHOT_INTERVAL=24h \
            start_node $id "$work/node-$id" --initial-cluster "$(initial_cluster)"
    done
}

snapshot_all() {
    local id pids=()
    for id in 1 2 3; do
        cli --timeout 120s snapshot save --node $id >/dev/null &
        pids+=($!)
    done
    wait "${pids[@]}"
}

# One snapshot after the other on every node, until told to stop.
start_snapshots() {
    touch "$work/snapshots"
    (
        trap - EXIT
        while [[ -e "$work/snapshots" ]]; do
            snapshot_all
            echo . >>"$work/snapshots-made"
        done
    ) &
    snapshots_pid=$!
}

stop_snapshots() {
    rm -f "$work/snapshots"
    if [[ -n "$snapshots_pid" ]]; then wait "$snapshots_pid" || true; fi
    snapshots_pid=""
}

# puts CLIENTS NAME: one round, a line of JSON.
puts() {
    cli -o json bench put --clients "$1" --connections $(($1 < 8 ? $1 : 8)) --ops "${ops[$1]}" --key-space "$keys" --value-size 100 >>"$work/$2-$1"
}

measure_puts() {
    local clients round
    for clients in "${client_counts[@]}"; do
        for ((round = 0; round < rounds; round++)); do
            puts "$clients" quiet
            start_snapshots
            puts "$clients" busy
            stop_snapshots
        done
    done
}

put_row() {
    local figures
    figures=$(jq -rs 'def med: sort | .[(length - 1) / 2 | floor];
        "\(map(.ops_per_s) | med | round)/s; \(map(.p50_us) | med / 1000) / \(map(.p99_us) | med / 1000) / \(map(.p999_us) | med / 1000) / \(map(.max_us) | max / 1000) ms"' \
        "$work/$2-$1")
    row "put, $1 clients, $3: p50 / p99 / p99.9 / max" "$figures"
}

main() {
    local started took clients round
    build_binaries
    pick_ports
    awk -v keys="$keys" 'BEGIN {for (i = 0; i < keys; i++) printf "{\"key\":\"bench/%012d\",\"value\":\"%0100d\"}\n", i, i}' >"$work/keys.ndjson"
    start_all
    wait_for_cluster
    row "$keys keys, three nodes" "RaftKV"
    row "---" "---"

    started=$(now_ms)
    cli --timeout 600s import "$work/keys.ndjson" >/dev/null 2>"$work/import.log" || { cat "$work/import.log" >&2; exit 1; }
    row "import" "$(($(now_ms) - started)) ms"
    row "memory of each node" "$(memory_mib)MiB"
    for ((round = 0; round < rounds; round++)); do
        cli put "bench/round" "$round" >/dev/null
        started=$(now_ms)
        cli --timeout 120s snapshot save >/dev/null
        echo $(($(now_ms) - started))
    done >"$work/snapshot-ms"
    row "snapshot of one node" "$(median <"$work/snapshot-ms") ms"

    measure_puts
    for clients in "${client_counts[@]}"; do
        put_row "$clients" quiet "no snapshot"
        put_row "$clients" busy "snapshots on all nodes"
    done
    row "snapshots of each node during those" "$(wc -l <"$work/snapshots-made")"

    for ((round = 0; round < rounds; round++)); do
        snapshot_all
        kill_nodes
        started=$(now_ms)
        start_all
        wait_for_cluster
        took=$(($(now_ms) - started))
        echo "$took"
    done >"$work/restart-ms"
    row "kill -9 of all three, to the first linearizable read" "$(median <"$work/restart-ms") ms (of $(tr '\n' ' ' <"$work/restart-ms"))"
    row "memory of each node after that" "$(memory_mib)MiB"
    kill_nodes
    if [[ -n "${ETCD:-}" ]]; then
        SIDES=etcd KEYS="$keys" "$root/scripts/bench-etcd.sh"
    fi
}

main
