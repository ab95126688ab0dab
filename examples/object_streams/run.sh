#!/bin/sh
# Runs the example against a server: run.sh [address], localhost:7000 unless it says another.
# The exit code is not 0 if anything was not as it should be.
set -eu
cd "$(dirname "$0")"
# Again after a change of the API: setup.sh says with gen/.made when it made the code.
[ -e gen/.made ] && [ -z "$(find ../../proto -newer gen/.made)" ] || ./setup.sh
exec go run . "${1:-localhost:7000}"
