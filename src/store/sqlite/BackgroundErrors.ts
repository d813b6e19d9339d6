import { StoreError } from '../JobStore.ts'
import { storeErrorOf } from './SqliteFile.ts'

/** Failures of work that no caller waits for: told at once, and kept until a check of the store asks. */
export class BackgroundErrors {
  readonly #path: string
  readonly #tell: (error: Error) => void
  #last: Error | undefined

  constructor(path: string, tell: (error: Error) => void) {
    this.#path = path
    this.#tell = tell
  }

  report(thrown: unknown): void {
    const error = storeErrorOf(thrown, this.#path)
    this.#last =
      error instanceof Error ? error : new StoreError(`work on the database ${this.#path} failed`, { cause: error })
    this.#tell(this.#last)
  }

  /** The last failure since this was last asked. */
  takeLast(): Error | undefined {
    const last = this.#last
    this.#last = undefined
    return last
  }
}
