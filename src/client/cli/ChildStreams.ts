import type { JobEvent } from '../../job/event.ts'
import { isTemporary, TetherApiError } from '../error.ts'
import { pause } from '../pause.ts'
import type { TetherClient } from '../TetherClient.ts'
import { persist } from '../tryAgain.ts'

/** Who takes what a child's stream says. */
export interface ChildReader {
  /** Resolves when more may come. */
  show(event: JobEvent): Promise<void>
  /** The child was not read, or not to its end: it is gone (`isGone`), or its stream was refused or broke. */
  onUnread(cause: unknown): void
}

interface Options {
  readonly client: TetherClient
  /** Ends every stream. */
  readonly signal: AbortSignal
  /** From when it fires a stream that breaks is not made anew. */
  readonly noMore: AbortSignal
  /** A reader threw what is a bug. */
  readonly onDefect: (error: unknown) => void
}

/** What is waited for, all in all, of children that are not read to their ends when those are known to have come. */
const PATIENCE_MS = 1000
/** Each is a connection. A job may have 64 children alive, each of them as many. */
const MAX_OPEN = 256

/**
 * The streams of the children of one job, and of theirs, as observers. A stream that breaks comes back as long as the job is
 * followed. What they say is waited for at a child's end, so that it stands before what its parent says next, and at the job's
 * end; where a child does not get there, a second is lost by it at the most.
 */
export class ChildStreams {
  readonly #options: Options
  /** Also of those that are over: where a log lost its end, its readers are told again what they have. */
  readonly #known = new Set<string>()
  readonly #reading = new Map<string, Promise<void>>()
  #patienceMs = PATIENCE_MS

  constructor(options: Options) {
    this.#options = options
  }

  /** `open` makes the reader of a child that is not known yet. */
  follow(childId: string, open: () => ChildReader): void {
    if (this.#known.has(childId)) return
    this.#known.add(childId)
    const reader = open()
    if (this.#reading.size >= MAX_OPEN) {
      reader.onUnread(new Error(`more than ${MAX_OPEN} child jobs are open`))
      return
    }
    const reading = this.#read(childId, reader)
      .catch(this.#options.onDefect)
      .finally(() => this.#reading.delete(childId))
    this.#reading.set(childId, reading)
  }

  /** Those that are not read to their ends. */
  get unread(): readonly string[] {
    return [...this.#reading.keys()]
  }

  /** The child has ended: resolves when its stream was read to its end, or within a second. */
  async readToEnd(childId: string): Promise<void> {
    const reading = this.#reading.get(childId)
    if (reading !== undefined) await this.#withPatience(reading)
  }

  /** The same for all of them, with whatever children they have yet. */
  async readAllToEnd(): Promise<void> {
    while (this.#reading.size > 0 && this.#patienceMs > 0) {
      await this.#withPatience(Promise.all(this.#reading.values()))
    }
  }

  async #withPatience(reading: Promise<unknown>): Promise<void> {
    const { signal } = this.#options
    const waiting = new AbortController()
    const sinceMs = performance.now()
    const isLate = await Promise.race([
      reading.then(() => false),
      pause(this.#patienceMs, AbortSignal.any([signal, waiting.signal])).then(
        () => true,
        () => true,
      ),
    ])
    waiting.abort()
    this.#patienceMs = isLate ? Math.max(0, this.#patienceMs - (performance.now() - sinceMs)) : PATIENCE_MS
  }

  async #read(childId: string, reader: ChildReader): Promise<void> {
    const { client, signal, noMore } = this.#options
    const reconnect = { signal: noMore, tryAtLeastMs: Number.POSITIVE_INFINITY }
    try {
      // A stream that is open comes back by itself; until it is, this sees to it.
      using stream = await persist(() => client.attach(childId, { signal, reconnect }), {
        signal: AbortSignal.any([signal, noMore]),
      })
      for await (const event of stream) await reader.show(event)
    } catch (error) {
      if (signal.aborted) return
      const isOfStream = error instanceof TetherApiError || isTemporary(error) || error === noMore.reason
      if (!isOfStream) throw error
      reader.onUnread(error)
    }
  }
}

/** Whether there is no such job any more. */
export function isGone(error: unknown): boolean {
  return error instanceof TetherApiError && (error.statusCode === 404 || error.statusCode === 410)
}
