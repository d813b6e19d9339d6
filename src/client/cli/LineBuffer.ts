/** Longer lines come out in pieces. */
const MAX_LINE_CHARS = 8192

/** Lines out of text that comes in pieces. A CR within a line begins it again, as a terminal would show it. */
export class LineBuffer {
  #partial = ''

  /** The lines that this text completes, without their ends. */
  push(text: string): string[] {
    const lines = (this.#partial + text).split('\n')
    const last = lines.pop() ?? ''
    // What comes next may be the end of the line, or begin it again.
    this.#partial = last.endsWith('\r') ? `${shownOf(last)}\r` : shownOf(last)
    const whole = lines.map(shownOf)
    while (this.#partial.length > MAX_LINE_CHARS) {
      whole.push(this.#partial.slice(0, MAX_LINE_CHARS))
      this.#partial = this.#partial.slice(MAX_LINE_CHARS)
    }
    return whole
  }

  /** What has come of a line whose end has not; empty where there is none. */
  get partial(): string {
    return shownOf(this.#partial)
  }

  /** The same, and the next text begins another line. */
  takePartial(): string {
    const { partial } = this
    this.#partial = ''
    return partial
  }
}

function shownOf(line: string): string {
  const text = line.replace(/\r+$/, '')
  return text.slice(text.lastIndexOf('\r') + 1)
}
