#!/bin/sh
# Makes gen/, the code for sessiond's API, with the generators whose versions go.mod names.
# Needs Go (1.19 or newer), and buf, which npx fetches where it is missing. May be run again at any time.
set -eu
cd "$(dirname "$0")"
command -v go >/dev/null || { echo "go is missing: install Go 1.19 or newer" >&2; exit 1; }
if command -v buf >/dev/null; then
    buf generate ../../.. --template buf.gen.yaml
else
    npx --yes @bufbuild/buf@1.75.0 generate ../../.. --template buf.gen.yaml
fi
touch gen/.made
