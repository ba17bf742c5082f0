#!/usr/bin/env bash
# Runs a command beside Azurite, the emulator of Azure Blob Storage, with an empty container `bucket`:
#
#   scripts/with-azurite.sh cargo test -p raftkv-node --test stores azure
#
# Needs node and npm. Installs the emulator below target/, listens on the loopback only, and stops it when the command ends.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p "${CARGO_TARGET_DIR:-target}/azurite"
home="$(cd "${CARGO_TARGET_DIR:-target}/azurite" && pwd)"
if [[ ! -d "$home/node_modules/azurite" || ! -d "$home/node_modules/@azure/storage-blob" ]]; then
    npm install --silent --no-audit --no-fund --no-save --prefix "$home" azurite@3.37.0 @azure/storage-blob@12 >&2
fi
port="$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')"
node "$home/node_modules/azurite/dist/src/blob/main.js" --inMemoryPersistence --disableTelemetry --skipApiVersionCheck \
    --silent --blobHost 127.0.0.1 --blobPort "$port" >&2 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT

# The account and its key are the emulator's own, the same everywhere.
(cd "$home" && PORT="$port" node -e '
    const { BlobServiceClient } = require("@azure/storage-blob");
    const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    const account = "devstoreaccount1";
    const text = `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${key};BlobEndpoint=http://127.0.0.1:${process.env.PORT}/${account};`;
    const container = BlobServiceClient.fromConnectionString(text).getContainerClient("bucket");
    const attempt = (left) => container.create().catch((error) => {
        if (left === 0) throw error;
        return new Promise((resolve) => setTimeout(resolve, 200)).then(() => attempt(left - 1));
    });
    attempt(100);
')
RAFTKV_TEST_AZURITE="127.0.0.1:$port" "$@"
