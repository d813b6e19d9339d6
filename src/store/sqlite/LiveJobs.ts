import type { JobKey } from '../../job/key.ts'
import type { ActiveStatus } from '../../job/status.ts'
import type { Place } from './places.ts'

/** What the store keeps in memory of a job that is not terminal. Changed only through `LiveJobs`, inside a commit. */
export interface LiveJob {
  readonly job: number
  readonly key: JobKey
  readonly status: ActiveStatus
  readonly lastSeq: number
  /** Where its newest batches stand that are not yet in a chapter, oldest first. */
  readonly tail: readonly Place[]
  /** How long its log is, in bytes of its lines, as far as this process wrote it. */
  readonly bytes: number
  /** Output up to this event is gone, because the log grew too long. */
  readonly trimmedSeq: number
}

type Mutable = { -readonly [K in keyof LiveJob]: K extends 'tail' ? Place[] : LiveJob[K] }

interface Before {
  readonly live: Mutable
  readonly fields: Pick<Mutable, 'status' | 'lastSeq' | 'tail' | 'bytes' | 'trimmedSeq'>
  readonly tailLength: number
  readonly known: boolean
}

/**
 * Status and last event number of every job that is not terminal, so that an append costs no read and no update of the job's
 * record. One process owns the file, therefore memory can be the truth for what is in it. What a commit changes here is kept or
 * undone as one, with its transaction: `keep` or `restore` ends every commit.
 */
export class LiveJobs {
  readonly #byKey = new Map<JobKey, Mutable>()
  /** As they were before the commit that is under way, in the order in which it touched them. */
  readonly #before = new Map<LiveJob, Before>()
  /** Those with a tail; the one whose tail begins first in the log comes first. */
  readonly #withTail = new Set<Mutable>()

  get(key: JobKey): LiveJob | undefined {
    return this.#byKey.get(key)
  }

  add(created: Omit<LiveJob, 'tail' | 'bytes' | 'trimmedSeq'>): LiveJob {
    const live: Mutable = { ...created, tail: [], bytes: 0, trimmedSeq: 0 }
    this.#remember(live, false)
    this.#byKey.set(live.key, live)
    return live
  }

  setStatus(live: LiveJob, status: ActiveStatus): void {
    this.#touch(live).status = status
  }

  /** A batch that ends at `lastSeq` now stands at `place`. */
  extend(live: LiveJob, place: Place, lastSeq: number): void {
    const own = this.#touch(live)
    own.lastSeq = lastSeq
    if (own.tail.length === 0) this.#withTail.add(own)
    own.tail.push(place)
  }

  /** The log was found to reach to `lastSeq` at least. */
  advance(live: LiveJob, lastSeq: number): void {
    this.#touch(live).lastSeq = Math.max(live.lastSeq, lastSeq)
  }

  /** The tail is in a chapter. */
  clearTail(live: LiveJob): void {
    const own = this.#touch(live)
    // A new array: the old one is what `restore` goes back to.
    own.tail = []
    this.#withTail.delete(own)
  }

  /** Its log became longer or, where `bytes` is negative, shorter. */
  grow(live: LiveJob, bytes: number): void {
    this.#touch(live).bytes += bytes
  }

  /** Its output up to `seq` is gone. */
  trim(live: LiveJob, seq: number): void {
    this.#touch(live).trimmedSeq = seq
  }

  /** The job has ended; its tail is in a chapter. */
  remove(live: LiveJob): void {
    this.#byKey.delete(this.#touch(live).key)
  }

  /** The job whose tail begins first in the log. */
  oldestTail(): LiveJob | undefined {
    const [first] = this.#withTail
    return first
  }

  keep(): void {
    this.#before.clear()
  }

  restore(): void {
    // Backwards: where an id was ended, deleted and created anew in one commit, the first of its jobs is the one that stays.
    for (const { live, fields, tailLength, known } of [...this.#before.values()].toReversed()) {
      Object.assign(live, fields)
      live.tail.length = tailLength
      if (known) this.#byKey.set(live.key, live)
      else this.#byKey.delete(live.key)
    }
    this.#before.clear()
    this.#orderTails()
  }

  #orderTails(): void {
    this.#withTail.clear()
    const withTail = [...this.#byKey.values()].filter((live) => live.tail.length > 0)
    for (const live of withTail.toSorted((a, b) => beginOf(a) - beginOf(b))) this.#withTail.add(live)
  }

  #touch(live: LiveJob): Mutable {
    const before = this.#before.get(live)
    if (before !== undefined) return before.live
    const own = this.#byKey.get(live.key)
    if (own === undefined) throw new Error(`job ${live.key} is not live`)
    this.#remember(own, true)
    return own
  }

  #remember(live: Mutable, known: boolean): void {
    const { status, lastSeq, tail, bytes, trimmedSeq } = live
    const fields = { status, lastSeq, tail, bytes, trimmedSeq }
    this.#before.set(live, { live, fields, tailLength: tail.length, known })
  }
}

function beginOf(live: LiveJob): number {
  return live.tail[0]?.row ?? 0
}
