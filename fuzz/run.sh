#!/usr/bin/env bash
# Runs every fuzz target for so many seconds each; 60 by default.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
for target in columns gateway stream_user_props; do
    # What is found on the way goes to a folder of its own: the corpus stays small.
    mkdir -p "target/found/$target"
    cargo +nightly fuzz run --sanitizer none "$target" "target/found/$target" "corpus/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
done
