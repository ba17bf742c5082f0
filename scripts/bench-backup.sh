#!/usr/bin/env bash
# Backups of a million keys beside pigz and restic, with the same bytes on this machine: how long each takes, and how much memory. Then
# how long it takes from a backup to the first linearizable read. Prints a table.
#
#   scripts/bench-backup.sh
#   KEYS=100000 ROUNDS=1 scripts/bench-backup.sh       smaller
#
# The same bytes are those of a snapshot file, which is what a backup compresses. Three nodes on loopback hold the keys; backups come from
# the live cluster. Beside the time stands the processor time of all processes that took part, which other load disturbs less. All sides write to the same directory, take turns in every round, and figures are medians of the rounds; memory is the
# most of all rounds. Memory of nodes is measured with a tenth of the keys, too. Needs Debian's jq, pigz, restic and time.
set -euo pipefail
PACKAGES="jq pigz restic time"
work="$(mktemp -d "${TMPDIR:-/var/tmp}/bench-backup.XXXXXX")"
source "$(dirname "$0")/cluster.sh"
require jq ss pigz restic /usr/bin/time

keys="${KEYS:-1000000}"
rounds="${ROUNDS:-3}"

cleanup() {
    kill_nodes
    rm -rf "$work"
}
trap cleanup EXIT

now_ms() { date +%s%3N; }
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
most() { sort -n | tail -n 1; }
fail() {
    cat "$1" >&2
    exit 1
}

# Processor time of the nodes so far, in ms.
nodes_ms() {
    local pid sum=0
    for pid in "${pid_of[@]}"; do sum=$((sum + $(awk '{print ($14 + $15) * 10}' "/proc/$pid/stat"))); done
    echo "$sum"
}

# timed NAME COMMAND...: notes milliseconds, processor milliseconds of the command and the nodes, and the most memory that the process held.
timed() {
    local name=$1 started nodes
    shift
    # Nobody pays for what the one before has left to be written.
    sync -f "$work"
    nodes=$(nodes_ms) started=$(now_ms)
    /usr/bin/time -f '%M %U %S' -o "$work/used" "$@" >/dev/null 2>"$work/log" || fail "$work/log"
    echo $(($(now_ms) - started)) >>"$work/$name.ms"
    awk -v nodes=$(($(nodes_ms) - nodes)) '{print ($2 + $3) * 1000 + nodes}' "$work/used" >>"$work/$name.cpu.ms"
    awk '{print $1}' "$work/used" >>"$work/$name.kib"
}

# By how much any node grew while the command ran, at most, in KiB.
node_growth() {
    local id pid before=()
    for id in 1 2 3; do
        pid=${pid_of[$id]}
        echo 5 >"/proc/$pid/clear_refs"
        before[id]=$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status")
    done
    "$@"
    for id in 1 2 3; do
        awk -v before="${before[id]}" '/^VmHWM/ {print $2 - before}' "/proc/${pid_of[$id]}/status"
    done | most
}

# --- The sides. Each writes a copy of its own.

backup_config() {
    cat >"$work/$1.yaml" <<YAML
provider: {type: local, local_path: $work/$1}
backup:
  compression: {enabled: true, type: $2, level: $3}
  encryption: {enabled: $4${5:-}}
YAML
}

create() { timed "$1" "$bin/raftkv-cli" --endpoints "$(endpoints)" --timeout 120s backup create --config "$work/$1.yaml"; }
in_cluster() { timed in-cluster "$bin/raftkv-cli" --endpoints "$(endpoints)" --timeout 120s backup create --in-cluster; }
pigz_side() { timed pigz sh -c 'exec pigz -6 -c "$1" >"$2"' _ "$work/stream" "$work/stream.gz"; }
restic_side() {
    rm -rf "$work/restic"
    restic init >/dev/null 2>"$work/log" || fail "$work/log"
    timed restic restic backup "$work/stream"
}

# From nothing but the store to the first linearizable read: the two commands and the node's start.
restore() {
    local name=$1 started node
    rm -rf "$work/restored"
    sync -f "$work"
    started=$(now_ms)
    /usr/bin/time -f %M -o "$work/kib" "$bin/raftkv-cli" backup restore --config "$work/$name.yaml" --backup latest --db "$work/restored" \
        --listen "$(address 1)" >/dev/null 2>"$work/log" || fail "$work/log"
    echo $(($(now_ms) - started)) >>"$work/restore-$name-part.ms"
    "$bin/raftkv-node" --data-dir "$work/restored" --listen "$(address 1)" >>"$work/restored.log" 2>&1 &
    node=$!
    pid_of[restored]=$node
    "$bin/raftkv-cli" --endpoints "$(address 1)" --timeout 60s -o json get "" --prefix --count-only >"$work/count" 2>"$work/log" || fail "$work/log"
    echo $(($(now_ms) - started)) >>"$work/restore-$name.ms"
    cat "$work/kib" >>"$work/restore-$name.kib"
    awk '/^VmHWM/ {print $2}' "/proc/$node/status" >>"$work/restored-node.kib"
    [[ $(jq .count "$work/count") -eq $keys ]]
    kill_node restored
}

# --- The keys: text with numbers and random digits in it, 100 bytes of value each.

generate() {
    awk -v from="$1" -v to="$2" 'BEGIN {
        srand(from + 1)
        split("berlin hamburg munich cologne frankfurt stuttgart dresden leipzig", city, " ")
        split("new paid packed shipped delivered returned", state, " ")
        for (i = from; i < to; i++) {
            value = sprintf("user=%07d city=%s total=%d.%02d state=%s token=%04x%04x%04x%04x", rand() * 5000000, city[int(rand() * 8) + 1], \
                rand() * 9000, rand() * 100, state[int(rand() * 6) + 1], rand() * 65536, rand() * 65536, rand() * 65536, rand() * 65536)
            printf "{\"key\":\"orders/%012d\",\"value\":\"%-100s\"}\n", i, value
        }
    }'
}

import() {
    generate "$1" "$2" >"$work/keys.ndjson"
    cli --timeout 600s import "$work/keys.ndjson" >/dev/null 2>"$work/log" || fail "$work/log"
    rm "$work/keys.ndjson"
}

start_all() {
    local id
    for id in 1 2 3; do
        RAFTKV_SNAPSHOT_ENTRIES=1000000000 RAFTKV_SNAPSHOT_INTERVAL=24h \
            start_node $id "$work/node-$id" --initial-cluster "$(initial_cluster)" --backup-config "$work/in-cluster.yaml"
    done
    wait_for_cluster
}

# --- The table

seconds() { awk -v ms="$(median <"$work/$1.ms")" 'BEGIN {printf "%.2f s", ms / 1000}'; }
mib() { awk -v kib="$(most <"$1")" 'BEGIN {printf "%.0f MiB", kib / 1024}'; }
# ratio NAME OTHER WORDS: of the medians.
ratio() {
    awk -v one="$(median <"$work/$1.ms")" -v other="$(median <"$work/$2.ms")" -v one_cpu="$(median <"$work/$1.cpu.ms")" \
        -v other_cpu="$(median <"$work/$2.cpu.ms")" -v words="$3" 'BEGIN {printf "%.2f %s; processor %.2f", one / other, words, one_cpu / other_cpu}'
}
written() { du -sm --apparent-size "$work/$1" | awk '{printf "%d MB", $1 * 1.048576}'; }
row() { printf '| %s | %s | %s | %s | %s | %s |\n' "$@"; }

table() {
    local bytes
    bytes=$(stat -c %s "$work/stream")
    row "$keys keys, a stream of $((bytes / 1000000)) MB" "time" "processor" "ratio" "most memory" "written"
    row "---" "---" "---" "---" "---" "---"
    row "pigz -6" "$(seconds pigz)" "$(seconds pigz.cpu)" "" "$(mib "$work/pigz.kib")" "$(written stream.gz)"
    row "backup create, gzip-6" "$(seconds gzip)" "$(seconds gzip.cpu)" "$(ratio gzip pigz "of pigz (aim 1.3)")" "$(mib "$work/gzip.kib")" "$gzip_written"
    row "the same, encrypted" "$(seconds gzip-aes)" "$(seconds gzip-aes.cpu)" "$(ratio gzip-aes pigz "of pigz")" "$(mib "$work/gzip-aes.kib")" "$gzip_aes_written"
    row "restic backup" "$(seconds restic)" "$(seconds restic.cpu)" "" "$(mib "$work/restic.kib")" "$(written restic)"
    row "backup create, zstd-3, encrypted" "$(seconds zstd-aes)" "$(seconds zstd-aes.cpu)" "$(ratio zstd-aes restic "of restic (aim 0.6)")" "$(mib "$work/zstd-aes.kib")" "$zstd_written"
    row "backup create --in-cluster, zstd-3, encrypted" "$(seconds in-cluster)" "$(seconds in-cluster.cpu)" "$(ratio in-cluster restic "of restic (aim 0.6)")" "" "$in_cluster_written"
    row "backup restore, start, first read: gzip-6" "$(seconds restore-gzip) (aim 2 s)" "" "" "$(mib "$work/restore-gzip.kib")" ""
    row "of that, backup restore" "$(seconds restore-gzip-part)" "" "" "" ""
    row "backup restore, start, first read: zstd-3, encrypted" "$(seconds restore-zstd-aes)" "" "" "$(mib "$work/restore-zstd-aes.kib")" ""
    row "the restored node" "" "" "" "$(mib "$work/restored-node.kib")" ""
    row "a node grew while it gave its state: $((keys / 10)) keys, all keys" "" "" "" "$(mib "$work/view-tenth.kib"), $(mib "$work/view.kib")" ""
    row "a node grew while it made a backup: $((keys / 10)) keys, all keys" "" "" "" "$(mib "$work/making-tenth.kib"), $(mib "$work/making.kib")" ""
    row "backup create, gzip-6, encrypted, of $((keys / 10)) keys" "" "" "" "$(mib "$work/tenth.kib")" ""
}

main() {
    local round stores="gzip gzip-aes zstd-aes in-cluster"
    build_binaries
    pick_ports
    "$bin/raftkv-cli" backup key generate "$work/key" >/dev/null
    backup_config gzip gzip 6 false
    backup_config gzip-aes gzip 6 true ", type: aes-256-gcm, key_file: $work/key"
    backup_config zstd-aes zstd 3 true ", type: aes-256-gcm, key_file: $work/key"
    backup_config in-cluster zstd 3 true ", type: aes-256-gcm, key_file: $work/key"
    export RESTIC_REPOSITORY="$work/restic" RESTIC_CACHE_DIR="$work/restic-cache" RESTIC_PASSWORD=benchmark
    start_all

    import 0 $((keys / 10))
    node_growth create gzip-aes >"$work/view-tenth.kib"
    mv "$work/gzip-aes.kib" "$work/tenth.kib"
    node_growth in_cluster >"$work/making-tenth.kib"
    rm "$work"/gzip-aes*.ms "$work"/in-cluster*.ms
    import $((keys / 10)) "$keys"
    cli --timeout 120s snapshot save --node 1 >/dev/null
    cp "$(printf '%s\n' "$work"/node-1/snapshots/snapshot-*.snap | tail -n 1)" "$work/stream"

    for ((round = 0; round < rounds; round++)); do
        # One backup in each store.
        for store in $stores; do rm -rf "${work:?}/$store"; done
        pigz_side
        create gzip
        node_growth create gzip-aes >>"$work/view.kib"
        restic_side
        create zstd-aes
        node_growth in_cluster >>"$work/making.kib"
    done
    gzip_written=$(written gzip) gzip_aes_written=$(written gzip-aes) zstd_written=$(written zstd-aes) in_cluster_written=$(written in-cluster)
    kill_nodes
    for ((round = 0; round < rounds; round++)); do
        restore gzip
        restore zstd-aes
    done
    table
}

main
