import type { CancelKind } from '../job/cancellation.ts'
import type { Json } from '../job/json.ts'
import type { OnDisconnect } from '../job/policy.ts'
import type { JobView } from '../job/view.ts'
import type { CancelAnswer } from './CancelAnswer.ts'
import { ConnectionLost, ServerUnreachable, StreamCut } from './error.ts'
import { JobRun } from './JobRun.ts'
import type { JobSpec } from './JobSpec.ts'
import { type HoldTerms, JobStream, type StreamServer } from './JobStream.ts'
import { isJobId, JOB_ID_FORM, mintJobId } from './jobId.ts'
import { Reconnect, type ReconnectOptions } from './Reconnect.ts'
import type { StreamAnswer } from './StreamConnection.ts'
import { type Request, Transport } from './Transport.ts'
import type { Attempt } from './tryAgain.ts'
import type { Wire } from './Wire.ts'

export interface StartOptions {
  /** Aborting closes the connection: for a stream that is the holder's leaving. */
  readonly signal?: AbortSignal
  readonly idempotencyKey?: string
}

/** How a stream lives. */
export interface StreamOptions {
  /** Aborting closes the connection and ends every way back; its reason is thrown. For a holder it is the leaving. */
  readonly signal?: AbortSignal
  /** How a connection that breaks is made anew, `false` where it is not. Default: with the defaults of the options. */
  readonly reconnect?: false | ReconnectOptions
}

export interface AttachOptions extends StreamOptions {
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

export interface ClientOptions {
  readonly server?: string
  readonly token?: string
  /**
   * A stream on which nothing comes for so long, not even a heartbeat, counts as broken, ms. Default 120000; more than the server's
   * HEARTBEAT_MS where that is another than 15000; 0 is no limit.
   */
  readonly maxSilenceMs?: number
}

/**
 * Eight heartbeats of the server's default. What finds a server that vanished is TCP keep-alive, within about 15 s; this is for
 * one that hangs, or that hides behind a proxy that does not notice. A holder that leaves a server that only hangs loses its job
 * where there is no grace, so the limit outlasts a task that blocks the server for a minute, and a HEARTBEAT_MS of a minute, the
 * longest that gets through a proxy with the usual limit (nginx: `proxy_read_timeout`, 60 s).
 */
const MAX_SILENCE_MS = 120_000

/**
 * A client of one server, whatever carries its requests. Streams come back by themselves where their connection breaks; everything else is sent once. Every
 * method rejects with `TetherApiError` where the server refuses, `ServerUnreachable` where there is none, `ConnectionLost` where
 * the connection broke before the answer was whole (`StreamCut` for streams), and the reason of its signal where that fires. An
 * id that no job can have is a `TypeError`, and nothing is sent.
 */
export abstract class BaseClient implements AsyncDisposable {
  readonly #transport: Transport
  readonly #closing = new AbortController()

  /** `base` is what a relative `server` is relative to. @throws {TypeError} where `server` is not an http or https URL. */
  protected constructor(
    options: ClientOptions & { readonly server: string },
    base: string | undefined,
    openWire: (limits: { readonly maxSilenceMs: number }) => Wire,
  ) {
    const { server, token, maxSilenceMs = MAX_SILENCE_MS } = options
    this.#transport = new Transport({ server, base, token, wire: openWire({ maxSilenceMs }) })
  }

  /**
   * Starts a job and streams it, as its holder. Resolves when the job is recorded. A connection that breaks before that is made
   * anew where the start can be sent twice, which is where it has a `jobId` or an `idempotencyKey`; else it is a `StreamCut`. No
   * server at all is `ServerUnreachable` at once.
   */
  async stream(spec: JobSpec, options: StartOptions & StreamOptions = {}): Promise<JobStream> {
    const { disconnectGraceMs = 0, leaseMs = 0 } = spec
    return await this.#openStream({
      jobId: spec.jobId,
      after: 0,
      hold: true,
      options,
      terms: { disconnectGraceMs, leaseMs },
      isRepeatable: spec.jobId !== undefined || options.idempotencyKey !== undefined,
      send: (signal) =>
        this.#askForStream('POST', 'execute/stream', spec.jobId, { body: spec, headers: keyHeader(options), signal }),
    })
  }

  /**
   * Streams a job that exists: what comes after `after`, then what happens, to its terminal event. Resolves with the answer's head;
   * a connection that breaks before it is made anew. No server at all is `ServerUnreachable` at once.
   */
  async attach(id: string, options: AttachOptions = {}): Promise<JobStream> {
    const { after, hold = false } = options
    return await this.#openStream({
      jobId: id,
      after: after ?? 0,
      hold,
      options,
      terms: undefined,
      isRepeatable: true,
      send: (signal) => this.#attach(id, { after, hold }, signal),
    })
  }

  /**
   * Starts a job and holds it: its events in a loop, and its result. An abort of `signal` cancels the job. Returns at once; what
   * goes wrong with the start is thrown by the loop and by `result`.
   */
  run<Result = Json>(
    spec: JobSpec,
    options: { signal?: AbortSignal; reconnect?: ReconnectOptions } = {},
  ): JobRun<Result> {
    const jobId = spec.jobId ?? mintJobId()
    const { reconnect = {} } = options
    return new JobRun<Result>(
      { ...spec, jobId },
      {
        stream: (whole, signal) => this.stream(whole, { signal, reconnect }),
        end: (kind, reason, signal) =>
          this.#end(kind, jobId, { ...(reason === undefined ? {} : { reason }), ifUnknown: 'remember', signal }),
        leaveRunning: (signal) => this.changePolicy(jobId, { onDisconnect: 'continue' }, { signal }),
      },
      options.signal,
    )
  }

  /** Starts a job in the background. */
  async start(spec: JobSpec, options: StartOptions = {}): Promise<JobView> {
    return await this.#transport.ask<JobView>('POST', 'jobs', {
      body: spec,
      headers: keyHeader(options),
      signal: options.signal,
    })
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
    return await this.#transport.ask<JobView>('GET', jobPath(id), { signal: options.signal })
  }

  /** Newest first; rows without `input` and `result`. */
  async list(filter: JobFilter = {}): Promise<JobPage> {
    const { signal, ...query } = filter
    const page = await this.#transport.ask<{ jobs: JobView[]; nextCursor?: string | null }>('GET', 'jobs', {
      query,
      signal,
    })
    return { jobs: page.jobs, nextCursor: page.nextCursor ?? undefined }
  }

  async tasks(options: { signal?: AbortSignal } = {}): Promise<readonly TaskView[]> {
    const answer = await this.#transport.ask<TaskView[] | { tasks: TaskView[] }>('GET', 'tasks', {
      signal: options.signal,
    })
    return 'tasks' in answer ? answer.tasks : answer
  }

  /** Changes what becomes of a job that has not ended when its last holder leaves. */
  async changePolicy(
    id: string,
    change: { onDisconnect?: OnDisconnect; disconnectGraceMs?: number },
    options: { signal?: AbortSignal } = {},
  ): Promise<JobView> {
    return await this.#transport.ask<JobView>('PATCH', jobPath(id), { body: change, signal: options.signal })
  }

  /**
   * Renews the lease of a holder, as `JobStream.holder` names it. A stream does that by itself.
   * Refused with `TETHER_INVALID_REQUEST` where the job has no such holder any more.
   */
  async renewLease(id: string, holder: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    const answer = await this.#transport.send('POST', jobPath(id, '/lease'), {
      body: { holder },
      signal: options.signal,
    })
    await answer.text()
  }

  /** Closes every connection, those of open streams too, which do not come back: their loops throw `StreamCut`. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#transport.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #end(kind: CancelKind, id: string, options: CancelOptions): Promise<CancelAnswer> {
    const { reason, ifUnknown, waitSeconds, signal } = options
    const answer = await this.#transport.send('POST', jobPath(id, `/${kind}`), {
      body: { ...(reason === undefined ? {} : { reason }), ...(ifUnknown === undefined ? {} : { ifUnknown }) },
      query: { wait: waitSeconds },
      signal,
    })
    const delivery = answer.header('x-tether-delivery')
    const body = await this.#transport.read<
      JobView | { id: string; remembered: true; kind: CancelKind; expiresAt: string }
    >(answer, signal)
    if ('remembered' in body) {
      return { kind: 'remembered', id: body.id, request: body.kind, expiresAt: body.expiresAt, delivery }
    }
    return { kind: answer.status === 200 ? 'ended' : 'accepted', job: body, delivery }
  }

  async #openStream(opening: {
    readonly jobId: string | undefined
    readonly after: number
    readonly hold: boolean
    readonly options: StreamOptions
    readonly terms: HoldTerms | undefined
    readonly isRepeatable: boolean
    readonly send: Attempt<StreamAnswer>
  }): Promise<JobStream> {
    const { after, hold, terms, isRepeatable, send } = opening
    const { signal = new AbortController().signal, reconnect: asked = {} } = opening.options
    const reconnect = asked === false ? undefined : new Reconnect(asked, this.#closing.signal)
    const answer = await send(signal).catch(async (error: unknown) => {
      if (!(error instanceof ConnectionLost)) throw error
      // The request was on its way: the job may have been started, so this is not "nothing happened".
      const cut = new StreamCut(opening.jobId, after, error.cause)
      if (reconnect === undefined || !isRepeatable) throw cut
      return await reconnect.resume(cut, { graceMs: terms?.disconnectGraceMs ?? 0, signal }, send)
    })
    return JobStream.open(answer, {
      server: this.#serverOf(answer.jobId, hold),
      after,
      signal: opening.options.signal,
      reconnect,
      terms,
    })
  }

  #serverOf(id: string, hold: boolean): StreamServer {
    return {
      attach: (after, signal) => this.#attach(id, { after, hold }, signal),
      renewLease: (holder, signal) => this.renewLease(id, holder, { signal }),
      job: (signal) => this.job(id, { signal }),
    }
  }

  async #attach(
    id: string,
    { after, hold }: { readonly after: number | undefined; readonly hold: boolean },
    signal: AbortSignal,
  ): Promise<StreamAnswer> {
    const query = { after, hold: hold ? 'true' : undefined }
    return await this.#askForStream('GET', jobPath(id, '/events'), id, { query, signal })
  }

  async #askForStream(method: string, path: string, id: string | undefined, request: Request): Promise<StreamAnswer> {
    const headers = { accept: 'text/event-stream', ...request.headers }
    const answer = await this.#transport.send(method, path, { ...request, headers })
    const jobId = answer.header('x-tether-job-id') ?? id
    if (answer.status === 204 && jobId !== undefined) {
      await answer.text()
      return { jobId, holder: undefined, body: undefined }
    }
    if (jobId === undefined || answer.header('content-type')?.startsWith('text/event-stream') !== true) {
      answer.stream().close()
      throw new ServerUnreachable(
        `${this.#transport.server} answered, and not with a job's stream as a Tether server does`,
      )
    }
    return { jobId, holder: answer.header('x-tether-holder'), body: answer.stream() }
  }
}

/** An id of another form never goes out: `..` or an empty one would name another route. */
function jobPath(id: string, rest = ''): string {
  if (!isJobId(id)) throw new TypeError(`a job id must be ${JOB_ID_FORM}, got ${JSON.stringify(id)}`)
  return `jobs/${id}${rest}`
}

function keyHeader(options: StartOptions): Record<string, string> {
  return options.idempotencyKey === undefined ? {} : { 'idempotency-key': options.idempotencyKey }
}
