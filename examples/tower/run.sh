#!/bin/sh
# Plays the recording against a server: run.sh [address], localhost:7000 unless it says another.
# The exit code is not 0 if anything was not as it should be. Shares what ../air_traffic/setup.sh makes.
set -eu
here="$(dirname "$0")"
shared="$here/../air_traffic"
[ -x "$shared/.venv/bin/python" ] && [ -d "$shared/gen/sessiond" ] || "$shared/setup.sh"
exec "$shared/.venv/bin/python" "$here/tower.py" "$@"
