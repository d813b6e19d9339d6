#!/bin/sh
# Starts the server, and installs the project's packages first where they are missing. Settings come from the environment.
# Ends in `exec`: no shell or npm stays in front, so a signal meant for the server reaches it. The caller's folder is kept.
set -eu
script=$(readlink -f "$0")
root=$(dirname "$script")
exec "$root/scripts/node" "$root/src/main.ts" "$@"
