/** One event of a stream, as WHATWG HTML section 9.2.6 dispatches it. */
export interface SseFrame {
  /** The `event:` field; `message` where the stream named none. */
  readonly event: string
  /** The `data:` lines, joined with LF. */
  readonly data: string
  /** The last `id:` that the stream has sent so far, of this event or of an earlier one; `''` where there was none. */
  readonly id: string
}

/** Longer than any event that a server sends (results to 1 MiB, inputs likewise); past it the stream is not one of ours. */
const MAX_EVENT_CHARS = 16 * 1024 * 1024

/** The stream holds an event that no server of ours would send. */
export class SseOverflow extends Error {
  override readonly name = 'SseOverflow'
}

const LINE_END = /\r\n|\r|\n/g
const DIGITS = /^[0-9]+$/

/**
 * Server-sent events out of bytes (WHATWG HTML section 9.2), cut anywhere. An event comes out on its blank line and not before:
 * what stands after the last blank line when the stream ends is dropped, as the standard says.
 */
export class SseParser {
  /** The reconnection time that the stream asked for, milliseconds; undefined until it did. */
  retryMs: number | undefined
  /** In stream mode it keeps the bytes of a character that was cut, and takes one byte order mark off the start. */
  readonly #decoder = new TextDecoder('utf-8')
  /** The start of a line whose end has not come. */
  #partialLine = ''
  /** The last text ended in CR, which ended its line: an LF that comes now belongs to it. */
  #endedInCr = false
  #data: string[] = []
  #dataChars = 0
  #event = ''
  #id = ''

  /**
   * The events that these bytes complete, oldest first.
   * @throws {SseOverflow} where a line or an event is longer than 16 Mi characters.
   */
  push(bytes: Uint8Array): SseFrame[] {
    const text = this.#decoder.decode(bytes, { stream: true })
    const frames: SseFrame[] = []
    if (text === '') return frames
    let start = this.#endedInCr && text.startsWith('\n') ? 1 : 0
    this.#endedInCr = text.endsWith('\r')
    LINE_END.lastIndex = start
    for (let end = LINE_END.exec(text); end !== null; end = LINE_END.exec(text)) {
      const frame = this.#takeLine(this.#partialLine + text.slice(start, end.index))
      if (frame !== undefined) frames.push(frame)
      this.#partialLine = ''
      start = end.index + end[0].length
    }
    this.#partialLine += text.slice(start)
    this.#assertBounded(this.#partialLine.length)
    return frames
  }

  #takeLine(line: string): SseFrame | undefined {
    if (line === '') return this.#dispatch()
    const colon = line.indexOf(':')
    if (colon === 0) return undefined
    const name = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    this.#takeField(name, value)
    return undefined
  }

  #takeField(name: string, value: string): void {
    switch (name) {
      case 'data':
        this.#dataChars += value.length + 1
        this.#assertBounded(this.#dataChars)
        this.#data.push(value)
        return
      case 'event':
        this.#event = value
        return
      case 'id':
        if (!value.includes('\0')) this.#id = value
        return
      case 'retry':
        if (DIGITS.test(value)) this.retryMs = Number(value)
        return
      default:
        // The standard: a field of any other name is ignored.
        return
    }
  }

  #dispatch(): SseFrame | undefined {
    const event = this.#event === '' ? 'message' : this.#event
    const data = this.#data
    this.#event = ''
    this.#data = []
    this.#dataChars = 0
    return data.length === 0 ? undefined : { event, data: data.join('\n'), id: this.#id }
  }

  #assertBounded(chars: number): void {
    if (chars > MAX_EVENT_CHARS) {
      throw new SseOverflow(`an event of a stream must be at most ${MAX_EVENT_CHARS} characters, got ${chars}`)
    }
  }
}
