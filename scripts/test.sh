#!/bin/sh
# Makes the machine ready where it is not (packages of the project, tools that the tests run) and runs every check and test.
# The last line is the test runner's own closing line, and the exit code is the runner's; failed checks are named at the end
# and fail the run too.
set -eu
script=$(readlink -f "$0")
root=$(dirname "$(dirname "$script")")
cd "$root"

# Commands that tests run, each with the Debian package that brings it.
NEEDED='setpriv:util-linux unshare:util-linux mount:mount script:bsdutils ps:procps curl:curl tmux:tmux ip:iproute2 chromium:chromium'

say() {
  printf 'test.sh: %s\n' "$1"
}

missing_packages() {
  for pair in $NEEDED; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || printf '%s\n' "${pair#*:}"
  done | sort -u | tr '\n' ' '
}

# Sets `as_root` to what has to stand before a command that only root may run; fails where there is no way.
can_be_root() {
  as_root=
  [ "$(id -u)" -eq 0 ] && return 0
  as_root='sudo -n'
  command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null
}

install_packages() {
  # A fresh machine has no lists yet, and old lists name versions that are gone.
  $as_root apt-get -qq update || say 'apt-get could not update its lists'
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $1 >/dev/null
}

packages=$(missing_packages)
if [ -n "$packages" ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    say "missing and not installed, as there is no apt-get here: $packages"
  elif ! can_be_root; then
    say "missing and not installed, as only root may: apt-get install $packages"
  else
    say "installing $packages"
    install_packages "$packages" || say "apt-get could not install: $packages"
  fi
fi

# Installs the project's packages where they are missing; from here on `node` is the project's own.
scripts/node --version >/dev/null
PATH=$root/node_modules/.bin:$PATH
export PATH

# Vitest colours its lines also where nobody sees the colours.
[ -t 1 ] || export NO_COLOR=1

checks=0
node --run check || checks=$?
tests=0
vitest run "$@" || tests=$?
[ "$tests" -eq 0 ] || exit "$tests"
[ "$checks" -eq 0 ] || say "the checks failed with code $checks: see above the tests"
exit "$checks"
