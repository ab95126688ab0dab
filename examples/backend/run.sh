#!/bin/sh
# Runs the example against a server: run.sh [address [language ...]], localhost:7000, go and node in turn
# unless it says others. The exit code is not 0 if anything was not as it should be.
set -eu
cd "$(dirname "$0")"
command -v node >/dev/null || { echo "node is missing: install Node.js 18 or newer" >&2; exit 1; }
# What the Node part needs is that of ../session_server.
[ -d ../session_server/node_modules/@grpc ] ||
    (cd ../session_server && npm ci --ignore-scripts --no-audit --no-fund --silent)
# Again after a change of the API: setup.sh says with gen/.made when it made the code.
[ -e go/gen/.made ] && [ -z "$(find ../../proto -newer go/gen/.made)" ] || go/setup.sh
(cd go && go build -o backend .)
exec node play.mjs "$@"
