#!/usr/bin/env -S sh -c 'exec "$(dirname "$(readlink -f "$0")")/scripts/node" "$0" "$@"'
import process from 'node:process'
import { main } from './src/client/cli/main.ts'

const { argv, env, stdin, stdout, stderr } = process
const exit = (code: number): void => process.exit(code)
exit(await main({ argv: argv.slice(2), env, stdin, stdout, stderr, signals: process, exit }))
