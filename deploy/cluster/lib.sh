# What up, down and status share: which processes a cluster on this machine has, and where.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=$root/target/cluster
port=
verb=$(basename "$0")
# Of three the log has a majority while one is lost.
numbers=(1 2 3)

fail() {
    printf '%s: %s\n' "$verb" "$1" >&2
    exit 1
}

# Of each process: its name, which is that of its folder too.
names() {
    for number in "${numbers[@]}"; do echo "nats-$number"; done
    for number in "${numbers[@]}"; do echo "node-$number"; done
    echo balancer
}

# Where a process listens, by its name and by what comes there.
port_of() {
    local number=${1##*-}
    case $1/${2:-clients} in
        balancer/clients) echo "$port" ;;
        node-*/clients) echo $((port + number)) ;;
        node-*/nodes) echo $((port + 100 + number)) ;;
        nats-*/clients) echo $((port + 220 + number)) ;;
        nats-*/routes) echo $((port + 230 + number)) ;;
        nats-*/monitor) echo $((port + 240 + number)) ;;
    esac
}

kinds_of() {
    case $1 in
        nats-*) echo clients routes monitor ;;
        node-*) echo clients nodes ;;
        *) echo clients ;;
    esac
}

# Something that only this process has in its command line: its number may be another's by now.
mark_of() {
    case $1 in
        nats-*) echo "$folder/$1/nats.conf" ;;
        node-*) echo "--node-listen 127.0.0.1:$(port_of "$1" nodes)" ;;
        balancer) echo "$folder/$1/haproxy.cfg" ;;
    esac
}

# The number of a process that runs; nothing, and 1, if it does not.
pid_of() {
    local pid command
    pid=$(cat "$folder/$1/pid" 2>/dev/null) && [ -n "$pid" ] || return 1
    command=$(ps -ww -o args= -p "$pid" 2>/dev/null) || return 1
    case $command in
        *"$(mark_of "$1")"*) echo "$pid" ;;
        *) return 1 ;;
    esac
}

is_open() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# What an earlier `up` has chosen.
read_port() {
    [ -d "$folder" ] || fail "there is no cluster in $folder: start one with deploy/cluster/up"
    port=$(cat "$folder/port" 2>/dev/null) || fail "$folder is no folder of a cluster"
}

find_sessiond() {
    local places=("${SESSIOND:-}" "$root/target/release/sessiond" "$(command -v sessiond)")
    for sessiond in "${places[@]}"; do
        [ -z "$sessiond" ] || [ ! -x "$sessiond" ] || return 0
    done
    [ -z "${SESSIOND:-}" ] || fail "SESSIOND is $SESSIOND, which is no program"
    fail "sessiond is missing: build it with 'cargo build --release', or say with SESSIOND where it is"
}
