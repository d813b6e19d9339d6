import { setTimeout as sleep } from 'node:timers/promises'
import { isTerminalEvent } from '../../src/job/event.ts'
import { unreachable } from '../../src/job/unreachable.ts'
import type { PlannedStream } from './plan.ts'
import { RawStream } from './RawStream.ts'
import type { TetherApi } from './TetherApi.ts'

/** What a client saw of its stream. */
export interface Sighting {
  readonly planned: PlannedStream
  /** Wall time at which it left or asked for the end; undefined where it did neither. */
  readonly endedByAt?: number
  readonly jobId?: string
  /** The number of the last event that it saw: the log must have it. */
  readonly lastSeq: number
  readonly problems: readonly string[]
  /** From which it was connected. */
  readonly ports: readonly number[]
  /** Wall time. */
  readonly overAt: number
}

/** The server that is stormed, and how the starts of this storm are told from others. */
export interface Target {
  readonly url: URL
  readonly api: TetherApi
  readonly group: string
}

/** A stream that shows nothing for this long has hung: the longest honest wait is the queue. */
const STREAM_DEADLINE_MS = 60_000

/** Plays one stream. Never rejects: what goes wrong is among the sighting's problems. */
export async function playStream(planned: PlannedStream, target: Target): Promise<Sighting> {
  const client = new Client(planned, target)
  const late = new AbortController()
  const overdue = sleep(STREAM_DEADLINE_MS, undefined, { signal: late.signal }).then(
    () => client.giveUp(),
    () => undefined,
  )
  try {
    await Promise.race([client.play(), overdue])
  } catch (error) {
    client.complain(error instanceof Error ? error.message : String(error))
  } finally {
    late.abort()
  }
  return client.sighting
}

class Client {
  readonly #planned: PlannedStream
  readonly #target: Target
  readonly #problems: string[] = []
  readonly #ports: number[] = []
  #stream: RawStream | undefined
  #endedByAt: number | undefined

  constructor(planned: PlannedStream, target: Target) {
    this.#planned = planned
    this.#target = target
  }

  get sighting(): Sighting {
    const jobId = this.#stream?.jobId ?? this.#planned.jobId
    const streamProblem = this.#stream?.problem
    return {
      planned: this.#planned,
      ports: this.#ports,
      overAt: Date.now(),
      lastSeq: this.#stream?.lastSeq ?? 0,
      problems: streamProblem === undefined ? this.#problems : [...this.#problems, streamProblem],
      ...(this.#endedByAt === undefined ? {} : { endedByAt: this.#endedByAt }),
      ...(jobId === undefined ? {} : { jobId }),
    }
  }

  complain(problem: string): void {
    this.#problems.push(problem)
  }

  giveUp(): void {
    this.complain(`nothing more came within ${STREAM_DEADLINE_MS} ms; the last event was ${this.#stream?.lastType}`)
    this.#stream?.leave('reset')
  }

  async play(): Promise<void> {
    const { moment, delayMs } = this.#planned
    switch (moment) {
      case 'request half sent':
        return this.#sendHalf()
      case 'before the first byte':
        await this.#send()
        if (delayMs > 0) await sleep(delayMs)
        return this.#leave()
      case 'while queued':
        await this.#sendAndSee('job.queued')
        await sleep(delayMs)
        return this.#leave()
      case 'at the start':
      case 'in the middle':
      case 'dropped, policy stop':
      case 'dropped, policy continue':
      case 'dropped, with grace':
      case 'near the end':
        await this.#sendAndSee('job.started')
        if (delayMs > 0) await sleep(delayMs)
        return this.#leave()
      case 'while waiting, no stream':
        await this.#send('/execute')
        await this.#stream?.answered
        if (this.#stream?.status !== 200) this.complain(`the request was answered with ${this.#stream?.status}`)
        await sleep(delayMs)
        return this.#leave()
      case 'left to finish':
        await this.#send()
        return this.#seeTheEnd()
      case 'dropped and taken over':
        return this.#takeOver()
      case 'cancelled':
      case 'cancelled near the end':
        await this.#sendAndSee('job.started')
        await sleep(delayMs)
        await this.#ask('cancel')
        return this.#seeTheEnd()
      case 'cancelled twice at once':
        await this.#sendAndSee('job.queued')
        await sleep(delayMs)
        await Promise.all([this.#ask('cancel'), this.#ask('cancel')])
        return this.#seeTheEnd()
      case 'cancelled and dropped':
        await this.#sendAndSee('job.queued')
        await sleep(delayMs)
        return this.#askAndLeave('cancel')
      case 'stopped':
        await this.#sendAndSee('job.queued')
        await sleep(delayMs)
        await this.#ask('stop')
        return this.#seeTheEnd()
      case 'stopped and dropped':
        await this.#sendAndSee('job.started')
        await sleep(delayMs)
        return this.#askAndLeave('stop')
      case 'cancelled before the start':
      case 'stopped before the start':
        await this.#ask(moment === 'stopped before the start' ? 'stop' : 'cancel', 'remember')
        await this.#send()
        return this.#seeTheEnd()
      case 'cancelled with the start': {
        const started = this.#send()
        await sleep(delayMs)
        await Promise.all([started, this.#ask('cancel', 'remember')])
        return this.#seeTheEnd()
      }
      default:
        return unreachable(moment)
    }
  }

  async #sendHalf(): Promise<void> {
    const { requestShare, delayMs } = this.#planned
    const bytes = this.#request('/execute/stream')
    const stream = await this.#open()
    await stream.send(bytes.subarray(0, Math.min(bytes.length - 1, Math.ceil(bytes.length * requestShare))))
    if (delayMs > 0) await sleep(delayMs)
    this.#leave()
  }

  async #takeOver(): Promise<void> {
    await this.#sendAndSee('job.started')
    await sleep(this.#planned.delayMs)
    const first = this.#stream
    const jobId = first?.jobId
    if (first === undefined || jobId === undefined) throw new Error('the stream named no job')
    first.leave(this.#planned.leave)
    const { lastSeq } = first
    const second = await this.#open(lastSeq)
    await second.send(
      Buffer.from(
        `GET /jobs/${jobId}/events?hold=true HTTP/1.1\r\nhost: ${this.#target.url.host}\r\nlast-event-id: ${lastSeq}\r\n\r\n`,
      ),
    )
    await second.answered
    // The job had ended, and the first stream had all of it.
    if (second.status === 204) second.leave('destroy')
    else await this.#seeTheEnd()
  }

  async #open(afterSeq = 0): Promise<RawStream> {
    this.#stream = await RawStream.open(this.#target.url, afterSeq)
    this.#ports.push(this.#stream.localPort)
    return this.#stream
  }

  async #send(route: '/execute' | '/execute/stream' = '/execute/stream'): Promise<void> {
    const stream = await this.#open()
    await stream.send(this.#request(route))
  }

  async #sendAndSee(type: string): Promise<void> {
    await this.#send()
    await this.#see((seen) => seen === type, type)
  }

  async #seeTheEnd(): Promise<void> {
    const stream = this.#stream
    if (stream === undefined) return
    await this.#see(isTerminalEvent, 'a terminal event')
    if (!(await stream.finished)) this.complain(`the stream was cut after ${stream.lastType}`)
    // The server keeps the connection for another request: so it is ours to close.
    stream.leave('destroy')
    await stream.closed
  }

  async #see(wanted: (type: string) => boolean, what: string): Promise<void> {
    const stream = this.#stream
    if (stream === undefined || (await stream.until(wanted))) return
    this.complain(`the stream ended without ${what}: HTTP ${stream.status}, last event ${stream.lastType || 'none'}`)
  }

  #leave(): void {
    this.#endedByAt = this.#stream?.leave(this.#planned.leave)
  }

  async #askAndLeave(kind: 'cancel' | 'stop'): Promise<void> {
    const asked = this.#ask(kind)
    this.#stream?.leave(this.#planned.leave)
    await asked
  }

  async #ask(kind: 'cancel' | 'stop', ifUnknown: 'reject' | 'remember' = 'reject'): Promise<void> {
    const jobId = this.#stream?.jobId ?? this.#planned.jobId
    if (jobId === undefined) throw new Error('the stream named no job')
    this.#endedByAt ??= Date.now()
    const status = await this.#target.api.end(jobId, kind, ifUnknown)
    const isRight =
      status === 200 || status === 202 || (status === 409 && this.#planned.moment.endsWith('near the end'))
    if (!isRight) this.complain(`${kind} was answered with ${status}`)
  }

  #request(route: string): Buffer {
    const { work, policy, jobId, index } = this.#planned
    const body = JSON.stringify({
      task: work.task,
      input: work.input,
      group: this.#target.group,
      metadata: { stream: index },
      ...policy,
      ...(jobId === undefined ? {} : { jobId }),
    })
    return Buffer.from(
      `POST ${route} HTTP/1.1\r\nhost: ${this.#target.url.host}\r\ncontent-type: application/json\r\n` +
        `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
  }
}
