import type { FastifyReply } from 'fastify'
import type { FrameSink, JobReader } from '../../eventlog/JobReader.ts'
import type { Presence } from '../Presence.ts'
import { LiveResponse } from './LiveResponse.ts'
import type { StreamContext } from './StreamContext.ts'

/** How long an EventSource waits before it comes back, in ms. The first frame of every stream says so. */
const RETRY_FRAME = 'retry: 1000\n\n'

/** Frames of one turn become one write; up to this many UTF-16 units, which is where a longer write gains nothing. */
const JOIN_UNITS = 32 * 1024

const SSE_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  // `no-transform` besides `x-accel-buffering`: what compresses on the way also holds frames back.
  'cache-control': 'no-store, no-transform',
  'x-accel-buffering': 'no',
}

/**
 * One stream of server-sent events (WHATWG HTML, section 9.2). Frames that are written in one turn of the loop become one write
 * to the socket, which is worth more than anything else here; never with `cork()`, which is slower and hides backpressure.
 * It says `false` to whoever writes once more than the reader's budget waits in memory, and resumes the reader when that is gone.
 * How large that budget is depends on how many readers are behind (ReaderBudget.ts).
 */
export class SseStream extends LiveResponse implements FrameSink {
  readonly kind: 'job' | 'all_jobs'
  readonly #context: StreamContext
  #sse: FastifyReply['sse'] | undefined
  #reader: JobReader | undefined
  #onEnd: (() => void) | undefined
  #joined = ''
  /** Events besides those of the reader. */
  #pushedEvents = 0
  /** Defined while the kernel has to take something before there is more. */
  #catchUp: (() => void) | undefined

  constructor(presence: Presence, context: StreamContext, kind: 'job' | 'all_jobs' = 'job') {
    super(presence, context.counters)
    this.kind = kind
    this.#context = context
  }

  protected get heartbeat(): string {
    return ':\n\n'
  }

  /** Sends the head and the first frame. `onEnd`, where given, is called once when the stream is over, however it ends. */
  start(reply: FastifyReply, headers: Readonly<Record<string, string>>, onEnd?: () => void): void {
    this.#onEnd = onEnd
    this.#sse = reply.sse
    this.presence.attach(this)
    this.noteBegin()
    reply.headers({ ...SSE_HEADERS, ...headers })
    reply.sse.keepAlive()
    reply.sse.sendHeaders(200)
    // What is left of the request would live as long as the stream: a body may be a megabyte.
    reply.request.body = undefined
    this.raw.write(RETRY_FRAME)
    this.#context.open.add(this)
  }

  protected get sentEvents(): number {
    return this.#pushedEvents + (this.#reader?.sentCount ?? 0)
  }

  /** Lets the frames of `reader` come, which is closed with the stream; that may be over by now. */
  follow(reader: JobReader): void {
    if (this.isOver) {
      reader.close()
      return
    }
    this.#reader = reader
    reader.start()
  }

  write(frames: string | Buffer): boolean {
    if (this.isOver || this.raw.destroyed) {
      this.counters.framesAfterEnd += 1
      return false
    }
    this.noteWrite()
    if (typeof frames === 'string') this.#join(frames)
    else {
      this.#flush()
      this.raw.write(frames)
    }
    return this.#hasRoom()
  }

  /** Takes the frame of one event without a budget: for who looks by itself how much waits. */
  push(frame: string): void {
    if (this.isOver || this.raw.destroyed) {
      this.counters.framesAfterEnd += 1
      return
    }
    this.noteWrite()
    this.#pushedEvents += 1
    this.#join(frame)
  }

  /** What waits for the kernel. */
  get bufferedBytes(): number {
    return this.raw.writableLength + this.#joined.length
  }

  get pageBytes(): number {
    return this.#context.budget.pageBytes
  }

  writePage(frames: Buffer): boolean {
    if (!this.write(frames)) return false
    this.#flush()
    if (this.isOver || !this.raw.writableNeedDrain) return true
    this.#awaitDrain()
    return false
  }

  /** All was written: a clean end. The server closes it, so a holder has not left. */
  end(): void {
    if (this.isOver) return
    this.#flush()
    this.#finish()
    this.#sse?.close()
  }

  /**
   * What was written still goes out, and then the connection is over without the end of the response, which no client takes for
   * the end of the log: whoever comes back goes on from there.
   */
  fail(error: Error): void {
    if (this.isOver) return
    this.counters.failedStreams += 1
    this.#context.logger.error({ err: error }, 'a stream was cut: its log could not be read or written')
    this.#flush()
    this.presence.cutOff()
    this.#finish()
    // Node hands what is written in a turn to the socket at the end of that turn.
    setImmediate(() => (this.raw.socket === null ? this.raw.destroy() : this.raw.socket.destroySoon()))
  }

  /** The reader fell behind by more than its budget, and there is nothing from which it could catch up. */
  drop(): void {
    if (this.isOver) return
    this.#finish()
    this.raw.destroy()
  }

  override shutDown(): void {
    this.end()
  }

  override onClosed(): void {
    this.#finish()
    this.#context.open.remove(this)
  }

  #finish(): void {
    if (this.isOver) return
    this.isOver = true
    this.#catchUp?.()
    this.presence.release()
    this.#pushedEvents = this.sentEvents
    this.#reader?.close()
    this.#reader = undefined
    this.#joined = ''
    this.#onEnd?.()
    this.#onEnd = undefined
  }

  #join(frames: string): void {
    if (this.#joined === '') process.nextTick(() => this.#flush())
    this.#joined += frames
    if (this.#joined.length >= JOIN_UNITS) this.#flush()
  }

  #flush(): void {
    if (this.#joined === '') return
    const joined = this.#joined
    this.#joined = ''
    this.raw.write(joined)
  }

  #hasRoom(): boolean {
    if (this.bufferedBytes <= this.#context.budget.limitBytes) return true
    this.#flush()
    // 'drain' comes only after a write that was answered with false; without that there is nothing to wait for.
    if (!this.raw.writableNeedDrain) return true
    this.#awaitDrain()
    return false
  }

  #awaitDrain(): void {
    if (this.#catchUp !== undefined) return
    this.#catchUp = this.#context.budget.fallBehind()
    this.raw.once('drain', () => this.#onDrain())
  }

  /** Not in the turn of 'drain', which can follow a write so closely that timers and other sockets never get theirs. */
  #onDrain(): void {
    this.#catchUp?.()
    this.#catchUp = undefined
    setImmediate(() => this.#reader?.resume())
  }
}
