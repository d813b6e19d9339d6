#!/usr/bin/env node
import process from 'node:process'
import { main } from './main.ts'

const { argv, env, stdin, stdout, stderr } = process
const exit = (code: number): void => process.exit(code)
exit(await main({ argv: argv.slice(2), env, stdin, stdout, stderr, signals: process, exit }))
