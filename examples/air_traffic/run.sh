#!/bin/sh
# Plays the recording and watches it, against a server that runs: run.sh --speed 150
# Ends with a summary line, and with an exit code other than 0 if any check failed.
set -eu
here="$(dirname "$0")"
[ -x "$here/.venv/bin/python" ] && [ -d "$here/gen/sessiond" ] || "$here/setup.sh"
exec "$here/.venv/bin/python" "$here/play.py" "$@"
