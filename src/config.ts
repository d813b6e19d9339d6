import { BlockList, isIP } from 'node:net'
import { resolve } from 'node:path'

const DURABILITIES = ['process', 'full'] as const
const CONTAINMENTS = ['auto', 'cgroup', 'pidns', 'group'] as const
const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

/** How the server runs. Complete and frozen; times are whole milliseconds. The defaults stand in `readConfig`. */
export interface Config {
  /** The address to listen on: an IP address or a host name. */
  readonly host: string
  /** 0 lets the system pick one. */
  readonly port: number
  /** Absolute; one process holds it. */
  readonly dataDir: string
  /** How many jobs run at once. */
  readonly concurrency: number
  /** How many jobs may wait; the next one is refused. */
  readonly maxQueued: number
  /** A silent stream carries a comment at least this often. */
  readonly heartbeatMs: number
  /** How long a cancelled job's function may take to settle, where the job does not say. */
  readonly settleMs: number
  /** Between TERM and KILL. Who uses it caps it at half of the job's own `settleMs`. */
  readonly killGraceMs: number
  /** What one reader may have waiting in memory before it reads from the log at its own pace. */
  readonly maxBufferedBytes: number
  /** A stream of which the kernel took nothing for this long, with bytes waiting, is destroyed. */
  readonly stallMs: number
  /** How long one job's log may become before its oldest output goes. */
  readonly maxLogBytes: number
  /** How long a finished job is kept; 0: until it is deleted. */
  readonly retainJobsMs: number
  /** How long a request to end a job that is not known yet is remembered. */
  readonly tombstoneMs: number
  readonly maxTombstones: number
  /** No job runs longer. */
  readonly maxRunMs: number
  /** How many abandoned jobs give their slot back; past it slots are kept and the server is not ready. */
  readonly maxAbandoned: number
  /** How long running jobs may finish at a shutdown. */
  readonly drainMs: number
  /** What a logged event survives: the death of the process, or (`full`) of the machine. */
  readonly durability: (typeof DURABILITIES)[number]
  readonly containment: (typeof CONTAINMENTS)[number]
  /** What a caller has to show; undefined on loopback only. A secret: never logged. */
  readonly apiToken: string | undefined
  /** Besides the loopback names; as `URL.hostname` writes them: lower case, an IPv6 address in brackets, no port. */
  readonly allowedHosts: readonly string[]
  /** As browsers send them: `scheme://host`, with the port where it is not the scheme's own. */
  readonly allowedOrigins: readonly string[]
  /** As Fastify's `trustProxy` takes it: nobody, everybody, or addresses separated by commas. */
  readonly trustProxy: boolean | string
  readonly maxStreamsPerClient: number
  /** How many requests a client may send in a minute; 0: any number. */
  readonly rateLimitPerMinute: number
  readonly logLevel: (typeof LOG_LEVELS)[number]
  /** Absolute: a folder of task modules besides the built-in ones. */
  readonly tasksDir: string | undefined
  /** What the name of this process in `replica` begins with. */
  readonly replicaId: string
  /** Where servers share their jobs; undefined: this one has its own. */
  readonly redisUrl: string | undefined
  /** What all keys and channels in Redis begin with. */
  readonly redisPrefix: string
  /** After so long without a sign of life the others take a server for gone, ms. */
  readonly leaseMs: number
  /** How often a server that the others cannot tell looks for what was asked of it, ms. */
  readonly cancelPollMs: number
  /** Where models are to be had. */
  readonly models: ModelSettings
  /** Whether only this machine can reach `host`. */
  readonly isLoopback: boolean
}

/** A setting that the server cannot start with: one line that names the key, the value and what is allowed. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** A form that values may have. `parse` gives undefined for a text of another form. */
interface Form<T> {
  readonly allowed: string
  readonly isSecret?: true
  parse(text: string): T | undefined
}

/** Node's timers take no longer delay than this. */
const MAX_DELAY_MS = 2_147_483_647
const HOUR_MS = 3_600_000
const MIB = 1024 * 1024

/**
 * Reads every setting. An empty value is an unset one; folders are taken from the working directory.
 * @throws {ConfigError} at the first value that is not allowed.
 */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  function setting<T>(key: string, form: Form<T>, fallback: T): T {
    const text = env[key]
    if (text === undefined || text === '') return fallback
    const value = form.parse(text)
    if (value !== undefined) return value
    const got = form.isSecret ? `${text.length} characters, not shown here` : quoted(text)
    throw new ConfigError(`${key} must be ${form.allowed}, got ${got}`)
  }

  const host = setting('HOST', HOST, '127.0.0.1')
  const isLoopback = isLoopbackHost(host)
  const apiToken = setting('API_TOKEN', TOKEN, undefined)
  if (!isLoopback && apiToken === undefined) throw tokenMissing(host)
  const concurrency = setting('CONCURRENCY', wholeNumber(1, 100_000), 64)
  return Object.freeze({
    host,
    isLoopback,
    port: setting('PORT', wholeNumber(0, 65_535), 3000),
    apiToken,
    allowedHosts: setting('ALLOWED_HOSTS', ALLOWED_HOSTS, NONE),
    allowedOrigins: setting('ALLOWED_ORIGINS', ALLOWED_ORIGINS, NONE),
    trustProxy: setting('TRUST_PROXY', PROXIES, false),
    maxStreamsPerClient: setting('MAX_STREAMS_PER_CLIENT', wholeNumber(1, 1_000_000), 2000),
    rateLimitPerMinute: setting('RATE_LIMIT_PER_MINUTE', wholeNumber(0, 10_000_000), isLoopback ? 0 : 6000),
    heartbeatMs: setting('HEARTBEAT_MS', wholeNumber(10, HOUR_MS), 15_000),
    maxBufferedBytes: setting('MAX_BUFFERED_BYTES', wholeNumber(1024, 1024 * MIB), MIB),
    stallMs: setting('STALL_MS', wholeNumber(10, MAX_DELAY_MS), 60_000),
    dataDir: setting('DATA_DIR', FOLDER, resolve('data')),
    redisUrl: setting('REDIS_URL', REDIS_URL, undefined),
    redisPrefix: setting('REDIS_PREFIX', REDIS_PREFIX, 'tether:'),
    leaseMs: setting('LEASE_MS', wholeNumber(1000, 600_000), 8000),
    cancelPollMs: setting('CANCEL_POLL_MS', wholeNumber(10, 60_000), 250),
    durability: setting('DURABILITY', oneOf(DURABILITIES), 'process'),
    concurrency,
    maxQueued: setting('MAX_QUEUED', wholeNumber(0, 10_000_000), 10_000),
    maxLogBytes: setting('MAX_LOG_BYTES', wholeNumber(1024, 1024 * 1024 * MIB), 256 * MIB),
    retainJobsMs: setting('RETAIN_JOBS_HOURS', HOURS, 168 * HOUR_MS),
    tombstoneMs: setting('TOMBSTONE_MS', wholeNumber(0, MAX_DELAY_MS), 60_000),
    maxTombstones: setting('MAX_TOMBSTONES', wholeNumber(0, 10_000_000), 10_000),
    maxRunMs: setting('MAX_RUN_MS', wholeNumber(1, MAX_DELAY_MS), HOUR_MS),
    settleMs: setting('SETTLE_MS', wholeNumber(100, 60_000), 2000),
    killGraceMs: setting('KILL_GRACE_MS', wholeNumber(0, 30_000), 500),
    // Rounded up: with none at all, one abandoned job would already make a server of few slots not ready.
    maxAbandoned: setting('MAX_ABANDONED', wholeNumber(0, 100_000), Math.ceil(concurrency / 4)),
    drainMs: setting('DRAIN_MS', wholeNumber(0, HOUR_MS), isLoopback ? 0 : 25_000),
    containment: setting('CONTAINMENT', oneOf(CONTAINMENTS), 'auto'),
    tasksDir: setting('TASKS_DIR', FOLDER, undefined),
    replicaId: setting('REPLICA_ID', REPLICA_ID, 'tether'),
    logLevel: setting('LOG_LEVEL', oneOf(LOG_LEVELS), 'info'),
    models: Object.freeze({
      model: setting('MODEL', MODEL, undefined),
      openaiBaseUrl: setting('OPENAI_BASE_URL', BASE_URL, undefined),
      openaiApiKey: setting('OPENAI_API_KEY', KEY, undefined),
      anthropicBaseUrl: setting('ANTHROPIC_BASE_URL', BASE_URL, undefined),
      anthropicApiKey: setting('ANTHROPIC_API_KEY', KEY, undefined),
    }),
  })
}

/** Where models are to be had. The keys are secrets: never logged, never sent to a client. */
export interface ModelSettings {
  /** What a job gets that names none: see `chooseModel`. */
  readonly model: string | undefined
  /** Of any server that speaks OpenAI's chat completions (Ollama, vLLM, llama.cpp), without a slash at its end. */
  readonly openaiBaseUrl: string | undefined
  readonly openaiApiKey: string | undefined
  readonly anthropicBaseUrl: string | undefined
  readonly anthropicApiKey: string | undefined
}

const NONE: readonly string[] = Object.freeze([])

const HOST: Form<string> = { allowed: 'an IP address or a host name, without a port', parse: listenHost }

const TOKEN: Form<string | undefined> = {
  allowed: '16 to 512 ASCII letters, digits and marks, without spaces, quotes, commas, semicolons and backslashes',
  isSecret: true,
  // What a bearer header and a cookie both carry as it is (RFC 6265, section 4.1.1).
  parse: (text) => (/^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{16,512}$/.test(text) ? text : undefined),
}

const ALLOWED_HOSTS = listOf('host names or IP addresses, without scheme, port or wildcard', urlHostname)

const ALLOWED_ORIGINS = listOf('origins such as https://app.example or http://localhost:5173, without a path', origin)

const PROXIES: Form<boolean | string> = {
  allowed: 'on, off, or IP addresses, CIDR ranges, loopback, linklocal or uniquelocal, separated by commas',
  parse: (text) => {
    if (text === 'on') return true
    if (text === 'off') return false
    const items = itemsOf(text)
    return items.length > 0 && items.every(isProxy) ? items.join(',') : undefined
  },
}

const FOLDER: Form<string> = { allowed: 'the path of a folder', parse: (text) => resolve(text) }

const REPLICA_ID: Form<string> = {
  allowed: '1 to 64 characters of A-Z a-z 0-9 . _ -',
  parse: (text) => (/^[A-Za-z0-9._-]{1,64}$/.test(text) ? text : undefined),
}

/** As milliseconds. Fractions, because a server that is tried out does not wait for an hour. */
const HOURS: Form<number> = {
  allowed: 'a number of hours from 0 to 876000, such as 168 or 0.5',
  parse: (text) => {
    const hours = /^\d{1,6}(\.\d{1,6})?$/.test(text) ? Number(text) : Number.NaN
    return hours <= 876_000 ? Math.round(hours * HOUR_MS) : undefined
  },
}

const MODEL: Form<string | undefined> = {
  allowed: 'openai:NAME, anthropic:NAME, scripted or the name of a model, without spaces, to 200 characters',
  parse: (text) => (/^[!-~]{1,200}$/.test(text) && !/^(openai|anthropic):$/.test(text) ? text : undefined),
}

const BASE_URL: Form<string | undefined> = {
  allowed: 'an http or https URL such as http://127.0.0.1:11434/v1, without user, query or fragment',
  parse: (text) => {
    const url = URL.parse(text)
    if (url === null || !/^https?:$/.test(url.protocol)) return undefined
    if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') return undefined
    return text.replace(/\/+$/, '')
  },
}

const REDIS_URL: Form<string | undefined> = {
  allowed: 'redis://[USER:PASSWORD@]HOST[:PORT][/DB], or rediss: for TLS',
  isSecret: true,
  parse: (text) => {
    const url = URL.parse(text)
    return url !== null && /^rediss?:$/.test(url.protocol) && url.hostname !== '' ? text : undefined
  },
}

const REDIS_PREFIX: Form<string> = {
  allowed: '1 to 64 characters of A-Z a-z 0-9 . _ : { } -',
  parse: (text) => (/^[A-Za-z0-9._:{}-]{1,64}$/.test(text) ? text : undefined),
}

const KEY: Form<string | undefined> = {
  allowed: 'visible ASCII characters without spaces, to 1000',
  isSecret: true,
  parse: (text) => (/^[!-~]{1,1000}$/.test(text) ? text : undefined),
}

function wholeNumber(min: number, max: number): Form<number> {
  return {
    allowed: `a whole number from ${min} to ${max}`,
    // Digits only: `Number` would also take '1e3', '0x10' and ' 7 '.
    parse: (text) => {
      const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
      return value >= min && value <= max ? value : undefined
    },
  }
}

function oneOf<T extends string>(words: readonly T[]): Form<T> {
  return {
    allowed: `one of ${words.join(', ')}`,
    parse: (text) => words.find((word) => word === text),
  }
}

/** Values separated by commas; white space around them and empty ones do not count. */
function listOf(allowed: string, parseItem: (text: string) => string | undefined): Form<readonly string[]> {
  return {
    allowed: `${allowed}, separated by commas`,
    parse: (text) => {
      const values = itemsOf(text).map(parseItem)
      return values.every((value) => value !== undefined) ? Object.freeze(values) : undefined
    },
  }
}

function itemsOf(list: string): string[] {
  return list
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}

function listenHost(text: string): string | undefined {
  return isIP(text) === 0 && (!isHostName(text) || urlHostname(text) === undefined) ? undefined : text
}

function isHostName(text: string): boolean {
  return /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(text) && text.length <= 253
}

/** The host as a URL would name it, so that it can be compared with what a request's headers are parsed to. */
function urlHostname(text: string): string | undefined {
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text
  const isV6 = isIP(bare) === 6
  if (!isV6 && !isHostName(text)) return undefined
  return URL.parse(`http://${isV6 ? `[${bare}]` : text}`)?.hostname
}

function origin(text: string): string | undefined {
  if (!/^https?:\/\/[^/?#@\\*]+$/i.test(text)) return undefined
  return URL.parse(text)?.origin
}

const NAMED_RANGES: readonly string[] = ['loopback', 'linklocal', 'uniquelocal']

function isProxy(text: string): boolean {
  if (NAMED_RANGES.includes(text)) return true
  const [address = '', prefix, ...rest] = text.split('/')
  const version = isIP(address)
  // An address with a zone (`fe80::1%eth0`) is one to Node but not to what compares proxies.
  if (version === 0 || address.includes('%') || rest.length > 0) return false
  // A range of 0 bits would be everybody, which is said with `on`.
  return prefix === undefined || wholeNumber(1, version === 4 ? 32 : 128).parse(prefix) !== undefined
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')

function isLoopbackHost(host: string): boolean {
  const version = isIP(host)
  return version === 0 ? host.toLowerCase() === 'localhost' : LOOPBACK.check(host, version === 4 ? 'ipv4' : 'ipv6')
}

function tokenMissing(host: string): ConfigError {
  return new ConfigError(
    `API_TOKEN must be set where others can reach HOST ${quoted(host)}: ${TOKEN.allowed} (or set HOST to 127.0.0.1)`,
  )
}

/** On one line and not too long, whatever the value is. */
function quoted(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
