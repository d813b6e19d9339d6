#!/bin/sh
# Starts N servers that are one (default 3), with a Redis of their own, behind a proxy on PORT (default 3000): to try it out.
# Ctrl+C ends all of it. Installs what is missing first. Ends in `exec`, so that a signal reaches the program.
set -eu
script=$(readlink -f "$0")
root=$(dirname "$(dirname "$script")")

"$root/scripts/install-commands" redis-server:redis-server
"$root/scripts/dashboard" || :
exec "$root/scripts/node" "$root/scripts/cluster.ts" "$@"
