import { Agent, type Dispatcher } from 'undici'
import type { CancelKind } from '../job/cancellation.ts'
import type { Json } from '../job/json.ts'
import type { JobPolicy, OnDisconnect } from '../job/policy.ts'
import type { JobView } from '../job/view.ts'
import { ConnectionLost, ServerUnreachable, StreamCut, TetherApiError } from './error.ts'
import { JobStream } from './JobStream.ts'
import { isJobId, JOB_ID_FORM } from './jobId.ts'
import { readAnswer } from './readAnswer.ts'

/** A job to start (protocol, section 3). What is left out takes the server's default. */
export interface JobSpec extends Partial<JobPolicy> {
  readonly task: string
  readonly input: Json
  /** Minted by the caller, so that the job can be cancelled before the server has answered. */
  readonly jobId?: string
  readonly group?: string
  readonly metadata?: { readonly [key: string]: Json }
}

export interface StartOptions {
  /** Aborting closes the connection: for a stream that is the holder's leaving. */
  readonly signal?: AbortSignal
  readonly idempotencyKey?: string
}

export interface AttachOptions {
  readonly signal?: AbortSignal
  /** Only events with a greater `seq`. Without it, the whole log. */
  readonly after?: number
  /** Whether the stream keeps the job alive as a holder. Default: it only looks. */
  readonly hold?: boolean
}

export interface CancelOptions {
  readonly signal?: AbortSignal
  readonly reason?: string
  /** How long the server may wait for the outcome before it answers, 0 to 60. Default 0. */
  readonly waitSeconds?: number
  /** `remember` keeps the request for a job that is not known yet. Default: refused with `TETHER_JOB_NOT_FOUND`. */
  readonly ifUnknown?: 'reject' | 'remember'
}

/** What became of a cancel or a stop. `delivery` is the server's `x-tether-delivery`. */
export type CancelAnswer =
  | { readonly kind: 'accepted' | 'ended'; readonly job: JobView; readonly delivery: string | undefined }
  | {
      readonly kind: 'remembered'
      readonly id: string
      readonly request: CancelKind
      readonly expiresAt: string
      readonly delivery: string | undefined
    }

export interface JobFilter {
  readonly signal?: AbortSignal
  readonly status?: string
  readonly task?: string
  readonly group?: string
  readonly parent?: string
  readonly limit?: number
  readonly cursor?: string
}

export interface JobPage {
  readonly jobs: readonly JobView[]
  /** Where the next page begins; undefined on the last. */
  readonly nextCursor: string | undefined
}

/** A registered kind of work. */
export interface TaskView {
  readonly name: string
  readonly [key: string]: Json
}

const DEFAULT_SERVER = 'http://127.0.0.1:3000'
/** The longest `wait` of a cancel is 60 s. */
const HEADERS_TIMEOUT_MS = 90_000
/** Twenty heartbeats of the server's default: a server that vanished without closing its connections. */
const SILENCE_MS = 300_000

/** Node names the step that failed: after these no byte of the request can have reached a server. */
const CONNECTING: ReadonlySet<unknown> = new Set(['connect', 'getaddrinfo'])
/** Codes of a handshake that failed (TLS), and of an answer that is no HTTP: no Tether server has taken the request. */
const NO_TETHER = /^(UND_ERR_CONNECT_TIMEOUT|EPROTO|HPE_|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|ERR_TLS|ERR_SSL)/

/**
 * A client of one server. Every method rejects with `TetherApiError` where the server refuses, `ServerUnreachable` where there
 * is none, `ConnectionLost` where the connection broke before the answer was whole (`StreamCut` for streams), and the reason of
 * its signal where that fires. An id that no job can have is a `TypeError`, and nothing is sent.
 */
export class TetherClient implements AsyncDisposable {
  readonly #base: URL
  readonly #token: string | undefined
  /** HTTP/1.1 only: there, leaving a stream closes a socket, which every proxy passes on. */
  readonly #agent: Agent

  /** @throws {TypeError} where `server` is not an absolute http or https URL. */
  constructor(options: { server?: string; token?: string } = {}) {
    this.#base = parseServer(options.server ?? DEFAULT_SERVER)
    this.#token = options.token
    this.#agent = new Agent({
      allowH2: false,
      headersTimeout: HEADERS_TIMEOUT_MS,
      bodyTimeout: SILENCE_MS,
      connect: { timeout: 10_000, keepAlive: true, keepAliveInitialDelay: 5_000 },
    })
  }

  /** Starts a job and streams it, as its holder. Resolves when the job is recorded. */
  async stream(spec: JobSpec, options: StartOptions = {}): Promise<JobStream> {
    try {
      const answer = await this.#send('POST', 'execute/stream', {
        body: spec,
        headers: { accept: 'text/event-stream', ...keyHeader(options) },
        signal: options.signal,
      })
      return await this.#openStream(answer, { jobId: spec.jobId, after: 0, signal: options.signal })
    } catch (error) {
      // The request was on its way: the job may have been started, so this is not "nothing happened".
      throw error instanceof ConnectionLost ? new StreamCut(spec.jobId, 0, error.cause) : error
    }
  }

  /** Streams a job that exists: what comes after `after`, then what happens, to its terminal event. */
  async attach(id: string, options: AttachOptions = {}): Promise<JobStream> {
    const { after, hold, signal } = options
    const query = { after, hold: hold === true ? 'true' : undefined }
    try {
      const answer = await this.#send('GET', jobPath(id, '/events'), {
        query,
        headers: { accept: 'text/event-stream' },
        signal,
      })
      return await this.#openStream(answer, { jobId: id, after: after ?? 0, signal })
    } catch (error) {
      throw error instanceof ConnectionLost ? new StreamCut(id, after ?? 0, error.cause) : error
    }
  }

  /** Starts a job in the background. */
  async start(spec: JobSpec, options: StartOptions = {}): Promise<JobView> {
    return await this.#ask<JobView>('POST', 'jobs', { body: spec, headers: keyHeader(options), signal: options.signal })
  }

  /** Hard: the job's work is ended now. */
  async cancel(id: string, options: CancelOptions = {}): Promise<CancelAnswer> {
    return await this.#end('cancel', id, options)
  }

  /** Cooperative: the job ends at its next boundary. */
  async stop(id: string, options: CancelOptions = {}): Promise<CancelAnswer> {
    return await this.#end('stop', id, options)
  }

  async job(id: string, options: { signal?: AbortSignal } = {}): Promise<JobView> {
    return await this.#ask<JobView>('GET', jobPath(id), { signal: options.signal })
  }

  /** Newest first; rows without `input` and `result`. */
  async list(filter: JobFilter = {}): Promise<JobPage> {
    const { signal, ...query } = filter
    const page = await this.#ask<{ jobs: JobView[]; nextCursor?: string | null }>('GET', 'jobs', { query, signal })
    return { jobs: page.jobs, nextCursor: page.nextCursor ?? undefined }
  }

  async tasks(options: { signal?: AbortSignal } = {}): Promise<readonly TaskView[]> {
    const answer = await this.#ask<TaskView[] | { tasks: TaskView[] }>('GET', 'tasks', { signal: options.signal })
    return 'tasks' in answer ? answer.tasks : answer
  }

  /** Changes what becomes of a job that has not ended when its last holder leaves. */
  async changePolicy(
    id: string,
    change: { onDisconnect?: OnDisconnect; disconnectGraceMs?: number },
    options: { signal?: AbortSignal } = {},
  ): Promise<JobView> {
    return await this.#ask<JobView>('PATCH', jobPath(id), { body: change, signal: options.signal })
  }

  /** Closes every connection, those of open streams too. */
  async close(): Promise<void> {
    await this.#agent.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #end(kind: CancelKind, id: string, options: CancelOptions): Promise<CancelAnswer> {
    const { reason, ifUnknown, waitSeconds, signal } = options
    const answer = await this.#send('POST', jobPath(id, `/${kind}`), {
      body: { ...(reason === undefined ? {} : { reason }), ...(ifUnknown === undefined ? {} : { ifUnknown }) },
      query: { wait: waitSeconds },
      signal,
    })
    const delivery = headerOf(answer, 'x-tether-delivery')
    const body = await this.#read<JobView | { id: string; remembered: true; kind: CancelKind; expiresAt: string }>(
      answer,
      signal,
    )
    if ('remembered' in body) {
      return { kind: 'remembered', id: body.id, request: body.kind, expiresAt: body.expiresAt, delivery }
    }
    return { kind: answer.statusCode === 200 ? 'ended' : 'accepted', job: body, delivery }
  }

  async #openStream(
    answer: Dispatcher.ResponseData,
    options: { jobId: string | undefined; after: number; signal: AbortSignal | undefined },
  ): Promise<JobStream> {
    const { after, signal } = options
    const jobId = headerOf(answer, 'x-tether-job-id') ?? options.jobId
    if (answer.statusCode === 204 && jobId !== undefined) {
      await answer.body.dump()
      return new JobStream({ jobId, holder: undefined, body: undefined, after, signal })
    }
    if (jobId === undefined || headerOf(answer, 'content-type')?.startsWith('text/event-stream') !== true) {
      answer.body.on('error', ignoreOwnDestroy).destroy()
      throw new ServerUnreachable(`${this.#base.href} answered, and not with a job's stream as a Tether server does`)
    }
    return new JobStream({ jobId, holder: headerOf(answer, 'x-tether-holder'), body: answer.body, after, signal })
  }

  async #ask<T>(method: Dispatcher.HttpMethod, path: string, request: Request): Promise<T> {
    return await this.#read<T>(await this.#send(method, path, request), request.signal)
  }

  async #read<T>(answer: Dispatcher.ResponseData, signal: AbortSignal | undefined): Promise<T> {
    try {
      return await readAnswer<T>(answer, this.#base.href)
    } catch (error) {
      throw this.#failureOf(error, signal)
    }
  }

  /** The answer's head; a refusal is read and thrown. */
  async #send(method: Dispatcher.HttpMethod, path: string, request: Request): Promise<Dispatcher.ResponseData> {
    const { body, headers, query, signal } = request
    const url = new URL(path, this.#base)
    for (const [name, value] of Object.entries(query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value))
    }
    try {
      const answer = await this.#agent.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers: {
          ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        body: body === undefined ? null : JSON.stringify(body),
        signal: signal ?? null,
      })
      if (answer.statusCode >= 300) await readAnswer(answer, this.#base.href)
      return answer
    } catch (error) {
      throw this.#failureOf(error, signal)
    }
  }

  #failureOf(error: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted === true) return signal.reason
    if (!(error instanceof Error) || error instanceof TetherApiError) return error
    if (isNotConnected(error))
      return new ServerUnreachable(`no server at ${this.#base.href}: ${reasonOf(error)}`, { cause: error })
    // Our own errors have no code, nor has a bug; undici says so itself where it refused the request.
    if (!('code' in error) || error.code === 'UND_ERR_INVALID_ARG') return error
    return new ConnectionLost(`the connection to ${this.#base.href} broke: ${error.message}`, { cause: error })
  }
}

interface Request {
  readonly body?: object
  readonly headers?: Readonly<Record<string, string>>
  readonly query?: Readonly<Record<string, string | number | undefined>>
  readonly signal?: AbortSignal | undefined
}

function parseServer(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw new TypeError(`server must be an http or https URL such as ${DEFAULT_SERVER}, got ${JSON.stringify(text)}`)
  }
  // Relative paths are resolved against it, which would drop the last segment of a path without a slash at its end.
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  url.search = ''
  url.hash = ''
  return url
}

/** A name with several addresses gives one error for each of them, wrapped. */
function isNotConnected(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.every(isNotConnected)
  if (!(error instanceof Error)) return false
  if ('syscall' in error && CONNECTING.has(error.syscall)) return true
  if (error.name === 'HTTPParserError') return true
  return 'code' in error && typeof error.code === 'string' && NO_TETHER.test(error.code)
}

/** The message of an error that wraps several is empty. */
function reasonOf(error: Error): string {
  return error.message === '' && 'code' in error ? String(error.code) : error.message
}

/** An id of another form never goes out: `..` or an empty one would name another route. */
function jobPath(id: string, rest = ''): string {
  if (!isJobId(id)) throw new TypeError(`a job id must be ${JOB_ID_FORM}, got ${JSON.stringify(id)}`)
  return `jobs/${id}${rest}`
}

function keyHeader(options: StartOptions): Record<string, string> {
  return options.idempotencyKey === undefined ? {} : { 'idempotency-key': options.idempotencyKey }
}

function headerOf(answer: Dispatcher.ResponseData, name: string): string | undefined {
  const value = answer.headers[name]
  return Array.isArray(value) ? value[0] : value
}

/** Destroying a body that nobody reads makes it emit the abort as an error. */
function ignoreOwnDestroy(): void {}
