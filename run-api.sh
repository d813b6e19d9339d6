#!/bin/sh
# Starts the server. Before that it installs the project's packages and builds the dashboard where they are missing or old.
# Settings come from the environment.
# Ends in `exec`: no shell or npm stays in front, so a signal meant for the server reaches it. The caller's folder is kept.
set -eu
script=$(readlink -f "$0")
root=$(dirname "$script")

# glibc's malloc keeps freed blocks of this size for itself, and in which order readers take their pages decides how much that
# comes to: 100 slow readers more made the process grow by 15 to 70 MB, and with this by 2 to 8 (bench/log). Others ignore it.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-65536}"

# A server without a dashboard is better than none: its page says then what to run.
"$root/scripts/dashboard" || :

exec "$root/scripts/node" "$root/src/main.ts" "$@"
