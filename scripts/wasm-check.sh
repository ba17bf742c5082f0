#!/usr/bin/env bash
# Checks that the core compiles where there is no operating system (wasm32-unknown-unknown): no sockets, files, threads or
# clocks can hide in it or in anything it depends on.
#
#   scripts/wasm-check.sh            fails, and says what to install, where the target's standard library is missing
#   scripts/wasm-check.sh --install  installs Debian's compiler and its library source first (needs root)
#
# A rustup toolchain with the target installed is used as it is. Otherwise Debian's rustc-web builds the standard library from
# rust-web-src, into a target directory of its own; which compiler builds everything else does not change.
set -euo pipefail
cd "$(dirname "$0")/.."

target=wasm32-unknown-unknown
packages=(rustc-web rust-web-src)
debian_rustc=/usr/bin/rustc

# The configuration's flags are for the host, so none are taken over; std's own crates are not ours to lint.
export RUSTFLAGS=""
check=(cargo check --locked --target-dir "${CARGO_TARGET_DIR:-target}/wasm-check" --target "$target" -p raftkv-core)

if [[ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]]; then
    "${check[@]}"
    exit
fi

library_source() { echo "$("$debian_rustc" --print sysroot)/lib/rustlib/src/rust/library"; }
has_debian_toolchain() { [[ -x "$debian_rustc" && -f "$(library_source)/Cargo.lock" ]]; }

if ! has_debian_toolchain && [[ "${1:-}" == --install ]]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}" >&2
fi
if ! has_debian_toolchain; then
    echo "wasm-check: no standard library for $target. Do one of:" >&2
    echo "  rustup target add $target" >&2
    echo "  apt-get install ${packages[*]}    (what --install does)" >&2
    exit 1
fi

# build-std is unstable: RUSTC_BOOTSTRAP lets a stable compiler take it, for this check only.
RUSTC="$debian_rustc" RUSTC_BOOTSTRAP=1 "${check[@]}" -Zbuild-std=std,panic_abort
