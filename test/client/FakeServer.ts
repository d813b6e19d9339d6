import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished, vi } from 'vitest'
import type { CancelKind, Cancellation } from '../../src/job/cancellation.ts'
import type { Json } from '../../src/job/json.ts'
import type { JobPolicy } from '../../src/job/policy.ts'
import type { Receipt, Usage } from '../../src/job/receipt.ts'
import type { JobStatus } from '../../src/job/status.ts'
import type { JobView } from '../../src/job/view.ts'
import { POLICY as RECORDED_POLICY } from '../store/records.ts'

const POLICY: JobPolicy = { ...RECORDED_POLICY, onRestart: 'run' }
const POLICY_FIELDS = Object.keys(POLICY)
const BODY_FIELDS = new Set(['task', 'input', 'jobId', 'group', 'metadata', ...POLICY_FIELDS])
const AT = '2026-01-02T03:04:05.678Z'

export const RECEIPT: Receipt = {
  confirmed: true,
  containment: { level: 'pidns', complete: true },
  requestedToAbortedMs: 0.4,
  abortedToKilledMs: 0.5,
  killedToVerifiedMs: 1.5,
  abortedToSettledMs: 1,
  released: { processes: 13, requests: 0, files: 0, children: 0, other: 0 },
  survivors: [],
}

interface Seen {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  readonly body: { readonly [key: string]: Json } | undefined
}

/** One job of the fake: its log, written to every reader as frames of protocol section 4. */
export class FakeJob {
  readonly id: string
  readonly spec: { readonly [key: string]: Json }
  policy: JobPolicy
  status: JobStatus = 'queued'
  /** How long after the start of all the events to come are, milliseconds. */
  clockMs = 0
  /** Streams that the client closed before the server did. */
  disconnects = 0
  result: Json | undefined
  receipt: Receipt | undefined
  /** Of streams that hold the job, as JSON: what leases are renewed with. To take one away is to let its lease run out. */
  readonly holders = new Set<string>()
  readonly #frames: string[] = []
  readonly #readers = new Set<ServerResponse>()
  readonly #enders = new Set<() => void>()
  #toolCount = 0

  constructor(id: string, spec: { readonly [key: string]: Json }) {
    this.id = id
    this.spec = spec
    this.policy = {
      ...POLICY,
      ...Object.fromEntries(POLICY_FIELDS.flatMap((name) => (name in spec ? [[name, spec[name]]] : []))),
    }
  }

  get isTerminal(): boolean {
    return !['queued', 'running', 'stopping', 'cancelling'].includes(this.status)
  }

  get readerCount(): number {
    return this.#readers.size
  }

  /** Bytes of streams that the kernel has not taken yet. */
  get unsentBytes(): number {
    return [...this.#readers].reduce((sum, reader) => sum + reader.writableLength, 0)
  }

  view(): JobView {
    return {
      id: this.id,
      task: taskOf(this.spec),
      status: this.status,
      terminal: this.isTerminal,
      createdAt: AT,
      input: this.spec['input'] ?? null,
      ...(this.result === undefined ? {} : { result: this.result }),
      ...(this.receipt === undefined ? {} : { receipt: this.receipt }),
      policy: this.policy,
      attempt: 1,
      lastSeq: this.#frames.length,
      metadata: {},
    }
  }

  /** Writes one event to the log and to every reader. */
  send(type: string, data: object = {}): void {
    const seq = this.#frames.length + 1
    const at = new Date(Date.parse(AT) + this.clockMs).toISOString()
    const json = JSON.stringify({ jobId: this.id, seq, type, at, ...data })
    const frame = `id: ${seq}\nevent: ${type}\ndata: ${json}\n\n`
    this.#frames.push(frame)
    for (const reader of this.#readers) reader.write(frame)
  }

  queue(): void {
    this.send('job.queued', { job: this.view(), position: 0 })
  }

  begin(): void {
    this.status = 'running'
    this.send('job.started', { attempt: 1, replica: 'fake' })
  }

  output(channel: string, text: string): void {
    this.send('output', { channel, text })
  }

  /** One call of a model, over at once. */
  callModel(usage?: Usage): void {
    this.send('model.started', { model: 'scripted' })
    this.send('model.finished', { model: 'scripted', ...(usage === undefined ? {} : { usage }) })
  }

  /** Returns its `callId`. */
  startTool(tool: string, input: Json): string {
    this.#toolCount += 1
    const callId = `${this.id}-${this.#toolCount}`
    this.send('tool.started', { tool, callId, input })
    return callId
  }

  finishTool(tool: string, callId: string, { ok = true, summary = '' } = {}): void {
    this.send('tool.finished', { tool, callId, ok, summary })
  }

  /** A call that takes so long. */
  useTool(tool: string, input: Json, { ms = 0, ok = true, summary = '' } = {}): void {
    const callId = this.startTool(tool, input)
    this.clockMs += ms
    this.finishTool(tool, callId, { ok, summary })
  }

  succeed(result: Json): void {
    this.result = result
    this.#end('succeeded', { result })
  }

  fail(failure: object): void {
    this.#end('failed', { failure })
  }

  /** Commits the request of the client. */
  committed(kind: CancelKind): void {
    this.status = kind === 'cancel' ? 'cancelling' : 'stopping'
    this.send(
      `job.${this.status}`,
      kind === 'cancel' ? { cancellation: cancellationOf(kind) } : { stop: cancellationOf(kind) },
    )
  }

  /** Ends the job as one that was asked to end. */
  released(kind: CancelKind, receipt: Receipt = RECEIPT): void {
    this.receipt = receipt
    const request = kind === 'cancel' ? { cancellation: cancellationOf(kind) } : { stop: cancellationOf(kind) }
    this.#end(kind === 'cancel' ? 'cancelled' : 'stopped', { ...request, receipt })
  }

  end(status: JobStatus, data: object): void {
    this.#end(status, data)
  }

  /** Breaks every stream's connection, as a server that dies does. */
  cut(): void {
    for (const reader of this.#readers) reader.destroy()
    this.#readers.clear()
  }

  /** Ends every stream properly, though the job goes on. */
  endStreamsEarly(): void {
    for (const reader of this.#readers) reader.end()
    this.#readers.clear()
  }

  /** Writes raw bytes of a stream as they are. */
  write(bytes: string | Uint8Array): void {
    for (const reader of this.#readers) reader.write(bytes)
  }

  /** Loses the events after `lastSeq`, as a machine does that loses its power. */
  loseTail(lastSeq: number): void {
    this.#frames.length = lastSeq
  }

  attach(response: ServerResponse, after: number): void {
    const lastSeq = this.#frames.length
    const gap = { jobId: this.id, seq: lastSeq, type: 'gap', at: AT, from: lastSeq, to: lastSeq, reason: 'log_lost' }
    const lost = after > lastSeq ? `id: ${lastSeq}\nevent: gap\ndata: ${JSON.stringify(gap)}\n\n` : ''
    response.write(`retry: 1000\n\n${lost}${this.#frames.slice(after).join('')}`)
    if (this.isTerminal) {
      response.end()
      return
    }
    this.#readers.add(response)
    response.on('close', () => {
      if (this.#readers.delete(response)) this.disconnects += 1
    })
  }

  /** Resolves when the job has ended. */
  async ended(): Promise<void> {
    if (this.isTerminal) return
    await new Promise<void>((resolve) => {
      this.#enders.add(resolve)
    })
  }

  #end(status: JobStatus, data: object): void {
    this.status = status
    this.send(`job.${status}`, data)
    for (const reader of this.#readers) reader.end()
    this.#readers.clear()
    for (const resolve of this.#enders) resolve()
  }
}

/** A server that speaks sections 3 and 4 of the protocol and does what the test tells it, on a socket of its own. */
export class FakeServer {
  readonly seen: Seen[] = []
  readonly jobs = new Map<string, FakeJob>()
  tasks = ['agent', 'command', 'ticks']
  token: string | undefined
  /** What a job does once it is recorded and its stream's head was sent. */
  play: (job: FakeJob) => void = (job) => job.begin()
  /** What a cancel or a stop does. */
  onEnd: (job: FakeJob, kind: CancelKind) => void = (job, kind) => {
    job.committed(kind)
    job.released(kind)
  }
  /** A child of a job, running, which its parent's log names. */
  startChild(parent: FakeJob, task: string, input: Json, id = `${parent.id}_${this.jobs.size}`): FakeJob {
    const child = new FakeJob(id, { task, input })
    this.jobs.set(id, child)
    child.clockMs = parent.clockMs
    child.queue()
    child.begin()
    parent.send('child.started', { childId: id, task })
    return child
  }

  /** Its parent hears of a child's end. */
  finishChild(parent: FakeJob, child: FakeJob): void {
    parent.clockMs = child.clockMs
    parent.send('child.finished', { childId: child.id, task: taskOf(child.spec), status: child.status })
  }

  /** Resolves when a start may be answered. */
  gate: Promise<void> = Promise.resolve()
  /** Resolves when an attach may be answered. */
  attachGate: Promise<void> = Promise.resolve()
  /** Answers instead of the routes, where it returns true. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean = () => false
  readonly #remembered = new Map<string, CancelKind>()
  #holderCount = 0
  readonly #server = createServer((request, response) => {
    void this.#answer(request, response)
  })

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve)
    })
  }

  get url(): string {
    const { port } = this.#server.address() as AddressInfo
    return `http://127.0.0.1:${port}`
  }

  /** The only job. */
  get job(): FakeJob {
    const [job] = this.jobs.values()
    if (job === undefined) throw new Error('no job was started')
    return job
  }

  requestsTo(method: string, path: RegExp): Seen[] {
    return this.seen.filter((request) => request.method === method && path.test(request.path))
  }

  /** Answers a request with a refusal. */
  refuse(response: ServerResponse, statusCode: number, code: string, headers: Record<string, string> = {}): void {
    json(response, statusCode, { statusCode, code, error: 'Refused', message: `refused with ${code}` }, headers)
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    // Also where it is closed already: a test may have been about that.
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
    })
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://fake')
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const text = Buffer.concat(chunks).toString()
    const body = text === '' ? undefined : JSON.parse(text)
    const method = request.method ?? ''
    this.seen.push({ method, path: url.pathname, query: url.searchParams, headers: request.headers, body })
    if (this.intercept(request, response)) return
    if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`) {
      refuse(response, 401, 'TETHER_UNAUTHORIZED', 'the token is missing or wrong')
      return
    }
    await this.#route(`${method} ${url.pathname}`, url.searchParams, body, response)
  }

  async #route(
    route: string,
    query: URLSearchParams,
    body: { readonly [key: string]: Json } | undefined,
    response: ServerResponse,
  ): Promise<void> {
    if (route === 'POST /execute/stream' || route === 'POST /jobs') {
      await this.gate
      this.#start(body ?? {}, route === 'POST /jobs', response)
      return
    }
    if (route === 'GET /jobs') {
      const jobs = [...this.jobs.values()].map((job) => job.view())
      json(response, 200, { jobs, nextCursor: null })
      return
    }
    if (route === 'GET /tasks') {
      json(response, 200, { tasks: this.tasks.map((name) => ({ name, input: { type: 'object' } })) })
      return
    }
    const [, method, id = '', action] = /^([A-Z]+) \/jobs\/([^/]+)(\/[a-z]+)?$/.exec(route) ?? []
    const job = this.jobs.get(id)
    if (method === 'POST' && (action === '/cancel' || action === '/stop')) {
      await this.#end(job, id, action === '/cancel' ? 'cancel' : 'stop', query, body ?? {}, response)
    } else if (job === undefined) {
      refuse(response, 404, 'TETHER_JOB_NOT_FOUND', `there is no job ${id}`)
    } else if (method === 'GET' && action === undefined) {
      json(response, 200, job.view())
    } else if (method === 'PATCH' && action === undefined) {
      if (job.isTerminal) refuse(response, 409, 'TETHER_JOB_FINISHED', `job ${id} has ended: ${job.status}`)
      else {
        job.policy = { ...job.policy, ...body }
        json(response, 200, job.view())
      }
    } else if (method === 'GET' && action === '/events') {
      await this.attachGate
      this.#attach(job, query, response)
    } else if (method === 'POST' && action === '/lease') {
      const holder = JSON.stringify(body?.['holder'])
      if (job.holders.has(holder)) response.writeHead(204).end()
      else refuse(response, 400, 'TETHER_INVALID_REQUEST', `job ${id} has no holder ${holder}`)
    } else refuse(response, 404, 'TETHER_ROUTE_NOT_FOUND', `there is no route ${route}`)
  }

  #start(body: { readonly [key: string]: Json }, background: boolean, response: ServerResponse): void {
    const strange = Object.keys(body).filter((name) => !BODY_FIELDS.has(name))
    if (strange.length > 0) {
      refuse(response, 400, 'TETHER_INVALID_REQUEST', `unknown fields: ${strange.join(', ')}`)
      return
    }
    if (!this.tasks.includes(taskOf(body))) {
      refuse(response, 404, 'TETHER_TASK_NOT_FOUND', `there is no task ${taskOf(body)}`)
      return
    }
    const id = typeof body['jobId'] === 'string' ? body['jobId'] : `job_fake${this.jobs.size}`
    const known = this.jobs.get(id)
    if (known !== undefined && !background) {
      streamHead(response, id, this.#holderOf(known))
      known.attach(response, 0)
      return
    }
    const job = new FakeJob(id, body)
    this.jobs.set(id, job)
    job.queue()
    if (background) json(response, 202, job.view(), { location: `/jobs/${id}` })
    else {
      streamHead(response, id, this.#holderOf(job))
      job.attach(response, 0)
    }
    const kind = this.#remembered.get(id)
    this.#remembered.delete(id)
    if (kind === undefined) this.play(job)
    else job.released(kind, { ...RECEIPT, released: { ...RECEIPT.released, processes: 0 } })
  }

  #attach(job: FakeJob, query: URLSearchParams, response: ServerResponse): void {
    const after = query.get('after')
    if (after !== null && job.isTerminal && Number(after) === job.view().lastSeq) {
      response.writeHead(204).end()
      return
    }
    streamHead(response, job.id, query.get('hold') === 'true' && !job.isTerminal ? this.#holderOf(job) : undefined)
    job.attach(response, Number(after ?? 0))
  }

  #holderOf(job: FakeJob): string {
    this.#holderCount += 1
    const holder = `holder-${this.#holderCount}`
    job.holders.add(JSON.stringify(holder))
    return holder
  }

  async #end(
    job: FakeJob | undefined,
    id: string,
    kind: CancelKind,
    query: URLSearchParams,
    body: { readonly [key: string]: Json },
    response: ServerResponse,
  ): Promise<void> {
    if (job === undefined && body['ifUnknown'] === 'remember') {
      this.#remembered.set(id, kind)
      json(response, 202, { id, remembered: true, kind, expiresAt: AT }, { 'x-tether-delivery': 'remembered' })
      return
    }
    if (job === undefined) {
      refuse(response, 404, 'TETHER_JOB_NOT_FOUND', `there is no job ${id}`)
      return
    }
    if (job.status === 'succeeded' || job.status === 'failed') {
      refuse(response, 409, 'TETHER_JOB_FINISHED', `job ${id} has ended: ${job.status}`)
      return
    }
    if (!job.isTerminal) this.onEnd(job, kind)
    if (query.get('wait') !== null) await Promise.race([job.ended(), closed(response)])
    json(response, job.isTerminal ? 200 : 202, job.view(), { 'x-tether-delivery': 'local' })
  }
}

/** A listening fake server that is closed when the test ends. */
export async function startFakeServer(): Promise<FakeServer> {
  const server = new FakeServer()
  await server.listen()
  onTestFinished(() => server.close())
  return server
}

/** Resolves when there are bytes for the job's readers and none were taken for a while: they have stopped reading. */
export async function nothingIsTaken(job: FakeJob): Promise<void> {
  let [before, polls] = [0, 0]
  await vi.waitFor(
    () => {
      polls = job.unsentBytes > 0 && job.unsentBytes === before ? polls + 1 : 0
      before = job.unsentBytes
      if (polls < 10) throw new Error(`${before} bytes are unsent, unchanged for ${polls} polls, expected 10`)
    },
    { timeout: 15_000, interval: 25 },
  )
}

function streamHead(response: ServerResponse, id: string, holder: string | undefined): void {
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store, no-transform',
    'x-accel-buffering': 'no',
    'x-tether-job-id': id,
    ...(holder === undefined ? {} : { 'x-tether-holder': holder }),
  })
}

function json(response: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  response
    .writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers })
    .end(JSON.stringify(body))
}

function refuse(response: ServerResponse, statusCode: number, code: string, message: string): void {
  json(response, statusCode, { statusCode, code, error: 'Refused', message })
}

async function closed(response: ServerResponse): Promise<void> {
  await new Promise<void>((resolve) => {
    response.on('close', resolve)
  })
}

function cancellationOf(kind: CancelKind): Cancellation {
  const cause = kind === 'cancel' ? 'cancel_requested' : 'stop_requested'
  return { cause, reason: 'Ctrl+C at the client', requestedAt: AT, phase: 'running' }
}

function taskOf(spec: { readonly [key: string]: Json }): string {
  return typeof spec['task'] === 'string' ? spec['task'] : ''
}
