#!/usr/bin/env -S sh -c 'exec "$(dirname "$(readlink -f "$0")")/scripts/node" "$0" "$@"'
import './src/client/cli/bin.ts'
