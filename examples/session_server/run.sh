#!/bin/sh
# Runs the example against a server: run.sh [address], localhost:7000 unless it says another.
# The exit code is not 0 if anything was not as it should be.
set -eu
cd "$(dirname "$0")"
command -v node >/dev/null || { echo "node is missing: install Node.js 18 or newer" >&2; exit 1; }
[ -d node_modules/@grpc ] || npm ci --ignore-scripts --no-audit --no-fund --silent
exec node main.mjs "$@"
