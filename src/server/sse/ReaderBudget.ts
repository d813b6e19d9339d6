/** What readers that are behind may have in memory together, as long as there are not thousands of them. */
const POOL_BYTES = 8 * 1024 * 1024

/** However many there are, each may have this much: less would cost more in turns than it saves. */
const MIN_BYTES = 16 * 1024

/** Few sizes, so that readers at the same place ask for the same pages (LogPages.ts). */
const PAGE_SIZES = [256 * 1024, 64 * 1024, MIN_BYTES]

/**
 * How much one reader may have waiting in memory: `maxBufferedBytes` while few are behind, and less the more there are, so that
 * what all of them have together stays about the same.
 */
export class ReaderBudget {
  readonly #maxBufferedBytes: number
  #behind = 0

  constructor(maxBufferedBytes: number) {
    this.#maxBufferedBytes = maxBufferedBytes
  }

  /** How many wait for their kernel to take what they have. */
  get behind(): number {
    return this.#behind
  }

  /** What a reader may have waiting before it gets nothing more. */
  get limitBytes(): number {
    return Math.min(this.#maxBufferedBytes, Math.max(MIN_BYTES, this.#share()))
  }

  /** How long the pages are that a reader gets from the log. */
  get pageBytes(): number {
    const share = this.#share()
    return Math.min(this.#maxBufferedBytes, PAGE_SIZES.find((size) => size <= share) ?? MIN_BYTES)
  }

  /** A reader is behind from here on. Returns its undo; twice is harmless. */
  fallBehind(): () => void {
    this.#behind += 1
    let isBehind = true
    return () => {
      if (isBehind) this.#behind -= 1
      isBehind = false
    }
  }

  #share(): number {
    return Math.floor(POOL_BYTES / (this.#behind + 1))
  }
}
