#!/bin/sh
# Plays the recording against a server: run.sh [address], localhost:7000 unless it says another.
# The exit code is not 0 if anything was not as it should be. Shares what ../air_traffic/setup.sh makes.
set -eu
here="$(dirname "$0")"
shared="$here/../air_traffic"
# Again after a change of the API: setup.sh says with gen/.made when it made the code.
[ -x "$shared/.venv/bin/python" ] && [ -e "$shared/gen/.made" ] &&
    [ -z "$(find "$here/../../proto" -newer "$shared/gen/.made")" ] || "$shared/setup.sh"
exec "$shared/.venv/bin/python" "$here/tower.py" "$@"
