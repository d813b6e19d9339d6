import { MAX_EVENT_BYTES, type OutputChannel, type TaskEvent } from '../job/event.ts'
import { assertSize } from './emitLimits.ts'
import { encodeLine } from './frames.ts'
import { splitText } from './splitText.ts'

/**
 * In the worst case one UTF-16 unit becomes six bytes of JSON (a control character as `\u001b`); pieces of this length stay
 * under the limit whatever they hold, with room for the rest of the event.
 */
const MAX_TEXT_UNITS = Math.floor((MAX_EVENT_BYTES - 512) / 6)

/**
 * What one job has emitted and the log has not taken yet. Outputs of one channel that follow each other are merged, so a task
 * that prints a token at a time costs one row and one frame a turn instead of one each.
 */
export class PendingEvents {
  /** About how much is waiting (UTF-16 units of text and of JSON): what backpressure counts. */
  units = 0
  #lines: string[] = []
  #channel: OutputChannel | undefined
  #text = ''
  #textAt = ''

  get isEmpty(): boolean {
    return this.#lines.length === 0 && this.#text === ''
  }

  /** @throws {TaskFailure} `TETHER_EVENT_TOO_LARGE` for an event that is not text; it is not taken then */
  push(event: TaskEvent, at: string): void {
    if (event.type === 'output') {
      this.#pushText(event.channel, event.text, at)
      return
    }
    const { type, ...data } = event
    const line = encodeLine(type, at, data)
    assertSize(type, line)
    this.#sealText()
    this.#lines.push(line)
    this.units += line.length
  }

  /** The lines that wait, in order; there are none afterwards. */
  take(): string[] {
    this.#sealText()
    const lines = this.#lines
    this.#lines = []
    this.units = 0
    return lines
  }

  #pushText(channel: OutputChannel, text: string, at: string): void {
    if (text === '') return
    if (channel !== this.#channel || this.#text.length + text.length > MAX_TEXT_UNITS) this.#sealText()
    if (this.#text === '') {
      this.#channel = channel
      this.#textAt = at
    }
    this.#text += text
    this.units += text.length
  }

  #sealText(): void {
    if (this.#text === '') return
    for (const text of splitText(this.#text, MAX_TEXT_UNITS)) {
      this.#lines.push(encodeLine('output', this.#textAt, { channel: this.#channel, text }))
    }
    this.#text = ''
  }
}
