#!/bin/sh
# Makes .venv/ with the dependencies and the recording, and gen/ with the code for sessiond's API.
# May be run again at any time. PYTHON names another interpreter than python3 (3.11 or newer).
set -eu
cd "$(dirname "$0")"

[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
# Only its sample data is used: its code is never imported, so its dependencies are not needed.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'traffic==2.13'

mkdir -p gen
.venv/bin/python -m grpc_tools.protoc -I ../../proto --python_out=gen --grpc_python_out=gen \
    ../../proto/sessiond/v1/*.proto
