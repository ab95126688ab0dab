#!/bin/sh
# Runs the example against a server: run.sh [address], localhost:7000 unless it says another.
# Over TLS: TOKEN=... run.sh --ca ca.pem [address], with the authorities of the server's certificate, and a key or a token
# with the scope app. The exit code is not 0 if anything was not as it should be.
set -eu
here="$(dirname "$0")"
command -v node >/dev/null || { echo "node is missing: install Node.js 18 or newer" >&2; exit 1; }
[ -d "$here/node_modules/@grpc" ] || (cd "$here" && npm ci --ignore-scripts --no-audit --no-fund --silent)
exec node "$here/main.mjs" "$@"
