# Three nodes on loopback, for the other scripts: source it after setting `work` to a directory that may be filled.
# shellcheck shell=bash

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bin="${RAFTKV_BIN_DIR:-${CARGO_TARGET_DIR:-$root/target}/release}"
ports=(7411 7412 7413)
declare -A pid_of=()

# Builds the binaries where RAFTKV_BIN_DIR does not say where they are.
build_binaries() {
    if [[ -z "${RAFTKV_BIN_DIR:-}" ]]; then
        (cd "$root" && cargo build --release --locked --bin raftkv-node --bin raftkv-cli)
    fi
}

# Three ports in a row that nobody listens at.
pick_ports() {
    local first
    for first in $(shuf -i 20000-30000 -n 100); do
        if ! ss -Hlun "sport >= :$first and sport <= :$((first + 2))" | grep -q .; then
            ports=("$first" $((first + 1)) $((first + 2)))
            return
        fi
    done
    echo "$0: there are no free ports between 20000 and 30000" >&2
    exit 1
}

address() { echo "127.0.0.1:${ports[$1 - 1]}"; }
endpoints() { echo "$(address 1),$(address 2),$(address 3)"; }
initial_cluster() { echo "1=$(address 1),2=$(address 2),3=$(address 3)"; }
cli() { "$bin/raftkv-cli" --endpoints "$(endpoints)" "$@"; }

# start_node ID DIR [ARGUMENT...]
start_node() {
    local id=$1 dir=$2
    shift 2
    "$bin/raftkv-node" --id "$id" --data-dir "$dir" --listen "$(address "$id")" "$@" >>"$work/node-$id.log" 2>&1 &
    pid_of[$id]=$!
}

kill_node() {
    kill -9 "${pid_of[$1]}"
    wait "${pid_of[$1]}" 2>/dev/null || true
    unset "pid_of[$1]"
}

kill_nodes() {
    local id
    for id in "${!pid_of[@]}"; do kill_node "$id"; done
}

# Returns once a linearizable read is answered; whether the key is there does not matter.
wait_for_cluster() {
    local code=0
    cli --timeout 60s get "" --prefix --count-only >/dev/null 2>"$work/wait.log" || code=$?
    if [[ $code -ne 0 && $code -ne 10 ]]; then
        cat "$work/wait.log" "$work"/node-*.log >&2
        return 1
    fi
}

leader() { cli -o json status | jq -r '[.nodes[].leader | select(. > 0)][0]'; }

require() {
    local tool
    for tool in "$@"; do
        if ! command -v "$tool" >/dev/null; then
            echo "$0: $tool is missing: apt-get install ${PACKAGES:-$tool}" >&2
            exit 1
        fi
    done
}
