#!/bin/sh
# Makes .venv/ with the dependencies and the recording, and gen/ with the code for sessiond's API.
# May be run again at any time. PYTHON names another interpreter than python3 (3.11 or newer).
set -eu
cd "$(dirname "$0")"

python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "$python is older than 3.11: set PYTHON to a newer one" >&2
    exit 1
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
# Only its sample data is used: its code is never imported, so its dependencies are not needed.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'traffic==2.13'

mkdir -p gen
.venv/bin/python -m grpc_tools.protoc -I ../../proto --python_out=gen --grpc_python_out=gen \
    ../../proto/sessiond/v1/*.proto
touch gen/.made
