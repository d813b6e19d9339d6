import type { FrameSink } from '../../src/eventlog/JobReader.ts'
import type { JobEvent } from '../../src/job/event.ts'
import { parseFrames } from '../world.ts'

/** Keeps all that it is given; `hasRoom`, where given, says after each write whether there is room for more. */
export class CollectingSink implements FrameSink {
  readonly #hasRoom: () => boolean
  readonly #over = Promise.withResolvers<void>()
  frames = ''
  /** How often it was told of the end or of a failure. */
  ends = 0
  writesAfterEnd = 0

  constructor(hasRoom: () => boolean = () => true) {
    this.#hasRoom = hasRoom
  }

  /** Settles at the end of the log; rejects where it could not be read. */
  get over(): Promise<void> {
    return this.#over.promise
  }

  get events(): JobEvent[] {
    return parseFrames(this.frames)
  }

  write(frames: string | Buffer): boolean {
    if (this.ends > 0) this.writesAfterEnd += 1
    this.frames += frames.toString()
    return this.#hasRoom()
  }

  readonly pageBytes = 64 * 1024

  writePage(frames: Buffer): boolean {
    return this.write(frames)
  }

  end(): void {
    this.ends += 1
    this.#over.resolve()
  }

  fail(error: Error): void {
    this.ends += 1
    this.#over.reject(error)
  }
}
