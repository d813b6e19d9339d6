import { TetherApiError } from '../../client/error.ts'
import { outcomeOfEvent } from '../../client/terminal.ts'
import type { JobView } from '../../job/view.ts'
import { followStream } from '../api/followStream.ts'
import type { ServerApi, StartSpec } from '../api/ServerApi.ts'
import { heldInTabs, MAX_HELD, tellTabs } from '../api/tabs.ts'
import { Changes } from '../Changes.ts'

/** Kept for one tab: it outlives a reload, and is gone with the tab. */
const STORED_AS = 'tether.held'

/** Only what comes is wanted: the server says where its log ends (`gap`), and goes on from there. */
const PAST_EVERY_LOG = 999_999_999_999_999

/** Asks for what comes after `after`. */
type Ask = (life: AbortSignal, after: number) => Promise<Response>

/**
 * The jobs that this tab holds: it started them, and their policy says what becomes of them when it is closed. Each has a stream
 * that nobody looks at; closing the tab closes it, and the server sees its holder gone.
 */
export class HeldJobs {
  readonly changes = new Changes()
  readonly #api: ServerApi
  readonly #storage: Storage
  readonly #held = new Map<string, AbortController>()
  #heldInTabs = 0

  constructor(api: ServerApi, storage: Storage) {
    this.#api = api
    this.#storage = storage
  }

  /** Whether the tabs of this browser hold as many as they may, as far as this one knows. */
  get isFull(): boolean {
    return Math.max(this.#held.size, this.#heldInTabs) >= MAX_HELD
  }

  /** Asks what the other tabs hold. */
  async lookAround(): Promise<void> {
    this.#heldInTabs = await heldInTabs()
    this.changes.note()
  }

  has(id: string): boolean {
    return this.#held.has(id)
  }

  /** Takes up again what this tab held before it was loaded anew. */
  resume(): void {
    for (const id of readIds(this.#storage))
      this.#hold(id, (life, after) => this.#again(id, life, after), PAST_EVERY_LOG)
  }

  /** Settles when the job is recorded. @throws what a start is refused with, and where no answer comes */
  start(spec: StartSpec): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    let isStarted = false
    const ask: Ask = async (life, after) => {
      if (isStarted) return this.#again(spec.jobId, life, after)
      try {
        const response = await this.#api.startHeld(spec, life)
        isStarted = true
        resolve()
        return response
      } catch (error) {
        // Where it was recorded all the same, it has lost its holder by that, and is ended.
        reject(error)
        this.#release(spec.jobId)
        throw error
      }
    }
    this.#hold(spec.jobId, ask, 0)
    return promise
  }

  /** The job goes on when this tab is closed. */
  async letRun(id: string): Promise<JobView> {
    const job = await this.#api.detach(id)
    this.#release(id)
    return job
  }

  #again(id: string, life: AbortSignal, after: number): Promise<Response> {
    return this.#api.events(id, { after, hold: true }, life)
  }

  #hold(id: string, ask: Ask, from: number): void {
    const life = new AbortController()
    let after = from
    this.#held.set(id, life)
    tellTabs(id, life.signal)
    this.#store()
    followStream({
      ask: (signal) => ask(signal, after),
      onEvents: (events) => {
        after = events.at(-1)?.seq ?? after
        return events.some(({ type }) => outcomeOfEvent(type) !== undefined)
      },
      // Not watched: whoever looks elsewhere has not left.
      signal: life.signal,
    })
      .catch((error: unknown) => {
        // The job is forgotten, or was never there.
        if (!(error instanceof TetherApiError)) throw error
      })
      .finally(() => this.#release(id))
  }

  #release(id: string): void {
    this.#held.get(id)?.abort()
    this.#held.delete(id)
    this.#store()
  }

  #store(): void {
    this.#storage.setItem(STORED_AS, JSON.stringify([...this.#held.keys()]))
    this.changes.note()
  }
}

function readIds(storage: Storage): readonly string[] {
  try {
    const ids: unknown = JSON.parse(storage.getItem(STORED_AS) ?? '[]')
    return Array.isArray(ids) ? ids.filter((id) => typeof id === 'string').slice(0, MAX_HELD) : []
  } catch (error) {
    if (error instanceof SyntaxError) return []
    throw error
  }
}
