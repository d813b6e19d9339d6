/** Which part of a text is taken, and how much of it. */
export interface NumberedLinesOptions {
  /** The number of the first line that is taken, from 1. */
  readonly firstLine: number
  readonly maxLines: number
  readonly maxBytes: number
  /** UTF-16 units. */
  readonly maxLineLength: number
}

/** Collects the lines of a text that comes in pieces, each with its number before it, as `cat -n` does. */
export class NumberedLines {
  readonly #options: NumberedLinesOptions
  readonly #lines: string[] = []
  #bytes = 0
  /** The number of the line that the next character belongs to. */
  #number = 1
  /** The beginning of that line, and how much more of it there was. */
  #line = ''
  #leftOut = 0
  #isInLine = false
  #isCut = false

  constructor(options: NumberedLinesOptions) {
    this.#options = options
  }

  /** Whether there is more text than is taken. */
  get isCut(): boolean {
    return this.#isCut
  }

  /** How many lines are behind, whole or in part. */
  get count(): number {
    return this.#number - 1
  }

  get text(): string {
    return this.#lines.join('\n')
  }

  /** Takes the next piece. `false` once nothing more is taken. A character must not be parted between two pieces. */
  push(text: string): boolean {
    let from = 0
    while (from < text.length) {
      if (this.#lines.length >= this.#options.maxLines) this.#isCut = true
      if (this.#isCut) return false
      const newline = text.indexOf('\n', from)
      this.#take(text, from, newline === -1 ? text.length : newline)
      this.#isInLine = newline === -1
      if (newline === -1) break
      this.#closeLine()
      from = newline + 1
    }
    return !this.#isCut
  }

  /** There is no more text: what came after the last line break is a line too. */
  end(): void {
    if (this.#isInLine) this.#closeLine()
  }

  #take(text: string, from: number, to: number): void {
    if (this.#number < this.#options.firstLine) return
    const room = Math.max(0, this.#options.maxLineLength - this.#line.length)
    let end = Math.min(to, from + room)
    // Half a character is none.
    if (end < to && end > from && isHighSurrogate(text.charCodeAt(end - 1))) end -= 1
    // One that did not fit ends the line, so that no later piece is put behind the gap.
    if (this.#leftOut === 0) this.#line += text.slice(from, end)
    else end = from
    this.#leftOut += to - end
  }

  #closeLine(): void {
    if (this.#number >= this.#options.firstLine) this.#add()
    if (!this.#isCut) this.#number += 1
    this.#line = ''
    this.#leftOut = 0
  }

  #add(): void {
    const note = this.#leftOut === 0 ? '' : ` [cut: ${this.#leftOut} more characters in this line]`
    const line = this.#leftOut === 0 && this.#line.endsWith('\r') ? this.#line.slice(0, -1) : this.#line
    const numbered = `${String(this.#number).padStart(6)}\t${line}${note}`
    const bytes = Buffer.byteLength(numbered) + 1
    // The first one always: else nobody could ever get past it.
    if (this.#lines.length > 0 && this.#bytes + bytes > this.#options.maxBytes) {
      this.#isCut = true
      return
    }
    this.#lines.push(numbered)
    this.#bytes += bytes
  }
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff
}
