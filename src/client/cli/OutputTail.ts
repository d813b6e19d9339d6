import { OutputLines } from './OutputLines.ts'

/** The last lines of what a tool prints, however much that is. */
export class OutputTail {
  readonly #maxLines: number
  readonly #lines = new OutputLines()
  readonly #last: string[] = []
  #count = 0

  constructor(maxLines: number) {
    this.#maxLines = maxLines
  }

  /** How many lines there were. */
  get count(): number {
    return this.#count + this.#lines.partial.length
  }

  /** The last ones, those included that have not ended. */
  get lines(): readonly string[] {
    return [...this.#last, ...this.#lines.partial].slice(-this.#maxLines)
  }

  /** The lines that this text completes. */
  push(channel: string, text: string): readonly string[] {
    return this.#keep(this.#lines.push(channel, text))
  }

  /** Ends the lines that have not ended; these are they. */
  end(): readonly string[] {
    return this.#keep(this.#lines.rest())
  }

  #keep(lines: readonly string[]): readonly string[] {
    this.#count += lines.length
    this.#last.push(...lines)
    this.#last.splice(0, this.#last.length - this.#maxLines)
    return lines
  }
}
