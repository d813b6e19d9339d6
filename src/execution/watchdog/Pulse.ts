const BEATS = 0
const IS_WATCHED = 1
const IS_INSPECTED = 2
const RUNNING = 3
/** Never written to: what a thread waits on that only wants to sleep. */
const NOTHING = 4
const HEADER_BYTES = 32

/** How many running jobs can be named; further ones are only counted. */
const MAX_NAMED = 100
/** A job's id, after one byte for its length; 0 is a free place. */
const PLACE_BYTES = 65

/**
 * The memory that the event loop's thread and the watchdog's thread share, because the one that is blocked answers nothing:
 * whether the loop turns, and which jobs are running. The loop's thread writes, the watchdog's thread reads.
 */
export class Pulse {
  readonly memory: SharedArrayBuffer
  readonly #header: Int32Array<SharedArrayBuffer>
  readonly #places: Buffer<SharedArrayBuffer>
  readonly #free: number[]

  constructor(memory = new SharedArrayBuffer(HEADER_BYTES + MAX_NAMED * PLACE_BYTES)) {
    this.memory = memory
    this.#header = new Int32Array(memory, 0, HEADER_BYTES / Int32Array.BYTES_PER_ELEMENT)
    this.#places = Buffer.from(memory, HEADER_BYTES)
    this.#free = Array.from({ length: MAX_NAMED }, (_, index) => (MAX_NAMED - 1 - index) * PLACE_BYTES)
  }

  /** The loop turned. */
  beat(): void {
    Atomics.add(this.#header, BEATS, 1)
  }

  get beats(): number {
    return Atomics.load(this.#header, BEATS)
  }

  /** Whether beats are to be expected. Setting it wakes the other thread. */
  set isWatched(value: boolean) {
    Atomics.store(this.#header, IS_WATCHED, Number(value))
    if (value) Atomics.notify(this.#header, IS_WATCHED)
  }

  get isWatched(): boolean {
    return Atomics.load(this.#header, IS_WATCHED) === 1
  }

  /** Whether somebody may be at work in this process with a debugger of their own. */
  set isInspected(value: boolean) {
    Atomics.store(this.#header, IS_INSPECTED, Number(value))
  }

  get isInspected(): boolean {
    return Atomics.load(this.#header, IS_INSPECTED) === 1
  }

  /** How many jobs are running, named or not. */
  get running(): number {
    return Atomics.load(this.#header, RUNNING)
  }

  /** Names a job that runs. Returns its undo. */
  add(jobId: string): () => void {
    Atomics.add(this.#header, RUNNING, 1)
    const place = this.#free.pop()
    if (place !== undefined) this.#places[place] = this.#places.write(jobId, place + 1, PLACE_BYTES - 1, 'latin1')
    return () => {
      Atomics.sub(this.#header, RUNNING, 1)
      if (place === undefined) return
      this.#places[place] = 0
      this.#free.push(place)
    }
  }

  /** The running jobs that could be named. Right only while the loop's thread is blocked, which is when it is asked for. */
  get jobIds(): string[] {
    const ids: string[] = []
    for (let place = 0; place < this.#places.length; place += PLACE_BYTES) {
      const length = this.#places[place] ?? 0
      if (length > 0) ids.push(this.#places.toString('latin1', place + 1, place + 1 + length))
    }
    return ids
  }

  /** Holds up the calling thread until beats are to be expected, without waking up meanwhile. Returns whether it had to wait. */
  waitUntilWatched(): boolean {
    return Atomics.wait(this.#header, IS_WATCHED, 0) === 'ok'
  }

  /** Holds up the calling thread. */
  sleep(ms: number): void {
    Atomics.wait(this.#header, NOTHING, 0, ms)
  }
}
