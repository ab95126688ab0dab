#!/bin/sh
# Plays the recording and watches it, against a server that runs: run.sh --speed 150
# Ends with a summary line, and with an exit code other than 0 if any check failed.
set -eu
here="$(dirname "$0")"
# Again after a change of the API: setup.sh says with gen/.made when it made the code.
[ -x "$here/.venv/bin/python" ] && [ -e "$here/gen/.made" ] &&
    [ -z "$(find "$here/../../proto" -newer "$here/gen/.made")" ] || "$here/setup.sh"
exec "$here/.venv/bin/python" "$here/play.py" "$@"
