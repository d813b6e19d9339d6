/** A provider keeps an event until its blank line is there, and then works on all of it in one go. */
const MAX_EVENT_BYTES = 1024 * 1024

const LINE_END = /\r\n?|\n/g

/** The last event of OpenAI's shape, and of Anthropic's. */
const LAST_DATA = /^data: ?(?:\[DONE\]$|\{\s*"type"\s*:\s*"message_stop"\s*[,}])/

/** Measures the events of a stream (WHATWG HTML section 9.2), which may be cut anywhere, and knows the last. */
export class EventMeter {
  #eventBytes = 0
  /** The start of a line whose end has not come. */
  #partialLine = ''
  /** An LF that comes next belongs to the line that has ended. */
  #endedInCr = false

  /**
   * Gives how many of these bytes there are to the end of the line that makes the answer whole; undefined where they hold none.
   * @throws {Error} where an event has more than 1 MiB
   */
  take(bytes: Uint8Array): number | undefined {
    if (bytes.length === 0) return undefined
    // A character for each byte: what is looked for is ASCII.
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
    let start = this.#endedInCr && text.startsWith('\n') ? 1 : 0
    this.#endedInCr = text.endsWith('\r')
    LINE_END.lastIndex = start
    for (let end = LINE_END.exec(text); end !== null; end = LINE_END.exec(text)) {
      const line = this.#partialLine + text.slice(start, end.index)
      this.#partialLine = ''
      start = end.index + end[0].length
      this.#eventBytes = line === '' ? 0 : this.#eventBytes + line.length + 1
      assertBounded(this.#eventBytes)
      if (LAST_DATA.test(line)) return start
    }
    this.#partialLine += text.slice(start)
    assertBounded(this.#eventBytes + this.#partialLine.length)
    return undefined
  }
}

function assertBounded(eventBytes: number): void {
  if (eventBytes > MAX_EVENT_BYTES) throw new Error(`an event of its answer has more than ${MAX_EVENT_BYTES} bytes`)
}
