#!/usr/bin/env bash
# RaftKV and etcd, one after the other on this machine, in the same shape: three nodes on loopback, 100-byte values, fsync on,
# closed loop, clients talking to the leader. Prints what each did, and the ratio.
#
#   scripts/bench-etcd.sh                     both
#   SIDES=etcd scripts/bench-etcd.sh          one of them
#   KEYS=100000 OPS=20000 scripts/...         smaller: keys for size and restart, operations of each run
#
# Needs Debian's etcd-server, etcd-client and jq. Results are JSON lines in $RESULTS (default target/bench-etcd.jsonl).
set -euo pipefail
PACKAGES="etcd-server etcd-client jq"
work="$(mktemp -d "${TMPDIR:-/var/tmp}/bench-etcd.XXXXXX")"
source "$(dirname "$0")/cluster.sh"
require jq etcd etcdctl

sides="${SIDES:-etcd raftkv}"
keys="${KEYS:-1000000}"
ops="${OPS:-100000}"
value_bytes=100
client_counts=(1 64 256)
results="${RESULTS:-$root/target/bench-etcd.jsonl}"
export ETCDCTL_API=3

cleanup() {
    kill_nodes
    rm -rf "$work"
}
trap cleanup EXIT

# note SIDE NAME JSON: one line of the results, and to the screen.
note() {
    jq -cn --arg side "$1" --arg name "$2" --argjson result "$3" \
        '{side: $side, name: $name, result: $result}' | tee -a "$results"
}

now_ms() { date +%s%3N; }
# One client's operations take longest: a run of it is shorter.
ops_for() { echo $(($1 == 1 ? ops / 20 : ops)); }
connections_for() { echo $(($1 < 8 ? $1 : 8)); }
rss_kib() {
    local pid sum=0
    for pid in "${pid_of[@]}"; do sum=$((sum + $(awk '/^VmRSS/ {print $2}' "/proc/$pid/status"))); done
    echo "$sum"
}

# --- etcd

etcd_build() {
    cargo build --release --locked --manifest-path "$root/scripts/bench-etcd/Cargo.toml" --target-dir "$root/target/bench-etcd"
    etcd_bench="$root/target/bench-etcd/release/bench-etcd"
}

etcd_start() {
    local id peers="n1=http://127.0.0.1:7421,n2=http://127.0.0.1:7422,n3=http://127.0.0.1:7423"
    for id in 1 2 3; do
        etcd --name "n$id" --data-dir "$work/etcd-$id" --log-level error \
            --listen-client-urls "http://$(address $id)" --advertise-client-urls "http://$(address $id)" \
            --listen-peer-urls "http://127.0.0.1:742$id" --initial-advertise-peer-urls "http://127.0.0.1:742$id" \
            --initial-cluster "$peers" --quota-backend-bytes $((8 << 30)) >>"$work/etcd-$id.log" 2>&1 &
        pid_of[$id]=$!
    done
}

etcd_wait() { "$etcd_bench" wait "$(address 1)"; }
etcd_leader() {
    etcdctl --endpoints "$(endpoints)" endpoint status -w json |
        jq -r '.[] | select(.Status.header.member_id == .Status.leader) | .Endpoint'
}
etcd_put() { "$etcd_bench" put "$(etcd_leader)" "$1" "$(connections_for "$1")" "$(ops_for "$1")" 10000 $value_bytes; }
etcd_get() { "$etcd_bench" get "$(etcd_leader)" "$1" "$(connections_for "$1")" "$(ops_for "$1")" 10000; }
etcd_fill() { "$etcd_bench" fill "$(etcd_leader)" "$keys" $value_bytes; }
etcd_snapshot() { etcdctl --endpoints "$(etcd_leader)" snapshot save "$work/etcd.snapshot" >/dev/null 2>&1; }

# --- RaftKV

raftkv_build() { build_binaries; }
raftkv_start() {
    local id
    for id in 1 2 3; do start_node $id "$work/raftkv-$id" --initial-cluster "$(initial_cluster)"; done
}
raftkv_wait() { wait_for_cluster; }
raftkv_bench() {
    local kind=$1 clients=$2
    cli -o json bench "$kind" --clients "$clients" --connections "$(connections_for "$clients")" \
        --ops "$(ops_for "$clients")" --key-space 10000 --value-size $value_bytes
}
raftkv_put() { raftkv_bench put "$1"; }
raftkv_get() { raftkv_bench get "$1"; }
# Reads are measured after the key space is written: one read of a large key space fills it.
raftkv_fill() {
    cli -o json bench get --clients 1 --ops 1 --connections 8 --key-space "$keys" --value-size $value_bytes >/dev/null
    echo null
}
raftkv_snapshot() { cli --timeout 120s snapshot save >/dev/null; }

# --- The same steps for both

measure() {
    local side=$1 clients started background
    "${side}_build"
    "${side}_start"
    "${side}_wait"
    for clients in "${client_counts[@]}"; do note "$side" "put, $clients clients" "$("${side}_put" "$clients")"; done
    for clients in "${client_counts[@]}"; do note "$side" "get, $clients clients" "$("${side}_get" "$clients")"; done

    started=$(now_ms)
    "${side}_fill" >/dev/null
    note "$side" "write $keys keys, ms" "$(($(now_ms) - started))"
    note "$side" "memory of three nodes with $keys keys, KiB" "$(rss_kib)"

    "${side}_put" 1 >"$work/puts" &
    background=$!
    started=$(now_ms)
    "${side}_snapshot"
    note "$side" "snapshot of $keys keys, ms" "$(($(now_ms) - started))"
    wait "$background"
    note "$side" "put, 1 client, with that snapshot" "$(cat "$work/puts")"

    kill_nodes
    started=$(now_ms)
    "${side}_start"
    "${side}_wait"
    note "$side" "kill -9 of all to first linearizable read with $keys keys, ms" "$(($(now_ms) - started))"
    note "$side" "memory of three nodes after that, KiB" "$(rss_kib)"
    kill_nodes
}

compare() {
    jq -rs '
        def figures: if type == "object" then {"ops/s": (.ops_per_s | round), "p50 us": .p50_us, "p99 us": .p99_us} else {"": .} end;
        [.[] | .side as $side | .name as $name | .result | figures | to_entries[]
            | {side: $side, name: ($name + (if .key == "" then "" else ", " + .key end)), value}]
        | group_by(.name)[]
        | {name: .[0].name, etcd: (map(select(.side == "etcd"))[-1].value), raftkv: (map(select(.side == "raftkv"))[-1].value)}
        | [.name, (.etcd // "-"), (.raftkv // "-"),
            (if .etcd and .raftkv then (.raftkv / .etcd * 100 | round / 100) else "-" end)]
        | @tsv' "$results" |
        awk -F '\t' 'BEGIN {printf "%-70s %12s %12s %8s\n", "", "etcd", "raftkv", "ratio"} {printf "%-70s %12s %12s %8s\n", $1, $2, $3, $4}'
}

mkdir -p "$(dirname "$results")"
: >"$results"
for side in $sides; do measure "$side"; done
compare
