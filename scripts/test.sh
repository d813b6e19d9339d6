#!/bin/sh
# Makes the machine ready where it is not (packages of the project, tools that the tests run) and runs every check and test.
# The last line is the test runner's own closing line, and the exit code is the runner's; failed checks are named at the end
# and fail the run too.
set -eu
script=$(readlink -f "$0")
root=$(dirname "$(dirname "$script")")
cd "$root"

# Commands that tests run, each with the Debian package that brings it.
NEEDED='setpriv:util-linux unshare:util-linux mount:mount script:bsdutils ps:procps curl:curl tmux:tmux ip:iproute2 chromium:chromium redis-server:redis-server'

say() {
  printf 'test.sh: %s\n' "$1"
}

scripts/install-commands $NEEDED

# Installs the project's packages where they are missing; from here on `node` is the project's own.
scripts/node --version >/dev/null
PATH=$root/node_modules/.bin:$PATH
export PATH

scripts/dashboard

# Vitest colours its lines also where nobody sees the colours.
[ -t 1 ] || export NO_COLOR=1

checks=0
node --run check || checks=$?
tests=0
vitest run "$@" || tests=$?
[ "$tests" -eq 0 ] || exit "$tests"
[ "$checks" -eq 0 ] || say "the checks failed with code $checks: see above the tests"
exit "$checks"
