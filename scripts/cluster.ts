#!/usr/bin/env node
import { styleText } from 'node:util'
import { nameOf, OwnCluster } from './cluster/OwnCluster.ts'

const HELP = `Usage: scripts/cluster.sh [N]

Starts N servers that are one (default 3), with a Redis of their own, behind a proxy on PORT (default 3000).
Other settings are those of the server, and go to each. Jobs, logs and files are gone with it.

Ctrl+C ends all of it; again: at once. Kill one of the servers to see what becomes of its jobs.`

const MAX_REPLICAS = 64
const DEFAULT_PORT = 3000

async function main([count = '3', ...more]: readonly string[]): Promise<number> {
  if (count === '--help' || count === '-h') {
    say(HELP)
    return 0
  }
  const replicas = wholeNumber('N', count, 1, MAX_REPLICAS)
  const port = wholeNumber('PORT', process.env['PORT'] || String(DEFAULT_PORT), 0, 65_535)
  if (replicas === undefined || port === undefined || more.length > 0) {
    if (more.length > 0) process.stderr.write(`cluster: there is no ${JSON.stringify(more[0])}\n`)
    return 2
  }
  const ended = new AbortController()
  const hurried = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => (ended.signal.aborted ? hurried : ended).abort())
  }
  const env = { LOG_LEVEL: 'warn', ...process.env }
  const cwd = process.cwd()
  const onLine = (name: string, line: string): void => say(`${styleText('dim', name)} ${line}`)
  const cluster = await OwnCluster.start({ replicas, port, env, cwd, onLine }, ended.signal)
  for (const [index, replica] of cluster.replicas.entries()) {
    say(`${nameOf(index)} listens on ${replica.url.origin} (pid ${replica.pid})`)
    void replica.exited.then((exit) => ended.signal.aborted || say(`${nameOf(index)} is gone (${exit})`))
  }
  say(`Tether listens on ${cluster.proxy.url.origin} (${replicas} replicas)`)
  await aborted(ended.signal)
  hurried.signal.addEventListener('abort', () => void cluster.remove())
  await cluster.stop()
  return 0
}

function wholeNumber(name: string, text: string, min: number, max: number): number | undefined {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN
  if (value >= min && value <= max) return value
  process.stderr.write(`cluster: ${name} must be a whole number from ${min} to ${max}, got ${JSON.stringify(text)}\n`)
  return undefined
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    if (error instanceof Error && error.name === 'AbortError') process.exit(0)
    process.stderr.write(`cluster: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exit(1)
  },
)
