import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'

export const HELP = `Usage: scripts/storm.ts [--streams N] [--concurrency N] [--seed N] [--url http://127.0.0.1:PORT]
                        [--replicas N [--kill]]

Starts N streams of mixed tasks, drops each at a random moment, and looks for what is left over: in the server and
in the operating system. Without --url it starts a server of its own on a free port and ends it afterwards.

  --streams N      how many streams (default 500)
  --concurrency N  how many clients at once (default 150, at most the number of streams)
  --seed N         makes the same plan again (default: a random one, which is printed)
  --url URL        a running server on this machine's loopback address
  --replicas N     N servers of its own that are one, with a Redis, behind a proxy
  --kill           kills one of them in the middle: its connections and its jobs may then end otherwise

Exit codes: 0 nothing is left over and every outcome is allowed, 1 otherwise, 2 wrong usage.`

/** Said to whoever called the program wrongly. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export interface StormOptions {
  readonly streams: number
  readonly concurrency: number
  readonly seed: number
  /** Undefined: a server of our own. */
  readonly url: URL | undefined
  /** How many servers of our own are one; undefined: one server, without a Redis. */
  readonly replicas: number | undefined
  /** Whether one of them is killed in the middle. */
  readonly kills: boolean
}

/** Undefined where only help is asked for. @throws {UsageError} */
export function parseOptions(argv: readonly string[]): StormOptions | undefined {
  const values = parse(argv)
  if (values.help === true) return undefined
  const streams = wholeNumber('--streams', values.streams ?? '500', 1, 20_000)
  const concurrency = wholeNumber('--concurrency', values.concurrency ?? String(Math.min(150, streams)), 1, 10_000)
  const seed = values.seed === undefined ? randomInt(1, 2 ** 32) : wholeNumber('--seed', values.seed, 0, 2 ** 32 - 1)
  const kills = values.kill === true
  const minReplicas = kills ? 2 : 1
  const replicas =
    values.replicas === undefined ? undefined : wholeNumber('--replicas', values.replicas, minReplicas, 16)
  const url = values.url === undefined ? undefined : loopbackUrl(values.url)
  if (url !== undefined && replicas !== undefined) throw new UsageError('--url and --replicas exclude each other')
  if (kills && replicas === undefined) throw new UsageError('--kill needs --replicas')
  return { streams, concurrency, seed, url, replicas, kills }
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        streams: { type: 'string' },
        concurrency: { type: 'string' },
        seed: { type: 'string' },
        url: { type: 'string' },
        replicas: { type: 'string' },
        kill: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new UsageError(error.message, { cause: error })
  }
}

function wholeNumber(name: string, text: string, min: number, max: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
  if (value >= min && value <= max) return value
  throw new UsageError(`${name} must be a whole number from ${min} to ${max}, got ${JSON.stringify(text)}`)
}

/** A storm is for a server of one's own: it looks into /proc for what the server has left, which must be this machine's. */
function loopbackUrl(text: string): URL {
  const url = URL.parse(text)
  const isLoopback = url !== null && /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(url.hostname)
  if (url?.protocol === 'http:' && isLoopback && url.port !== '') return url
  throw new UsageError(`--url must be http:// with a loopback address and a port, got ${JSON.stringify(text)}`)
}
