import type { JobEvent } from '../../job/event.ts'
import type { Json } from '../../job/json.ts'
import type { OutputMode } from './invocation.ts'
import type { Sink } from './Sink.ts'
import { escapeC1, plainLine, TerminalFilter } from './TerminalFilter.ts'

const RESET_COLOURS = '\x1b[0m'
const MAX_INPUT_CHARS = 200

/** Where the text of a job's channel goes, and how it is cleaned on the way. */
interface Lane {
  readonly sink: Sink
  readonly filter: TerminalFilter
}

/** What the user sees: the job's text on stdout and stderr, the client's own lines on stderr between them. */
export class Screen {
  readonly #mode: OutputMode
  readonly #out: Lane
  readonly #err: Lane
  /** The last text on the terminal did not end its line, so a line of our own would be glued to it. */
  #isInLine = false

  constructor(mode: OutputMode, out: Sink, err: Sink) {
    this.#mode = mode
    this.#out = { sink: out, filter: new TerminalFilter() }
    this.#err = { sink: err, filter: new TerminalFilter() }
  }

  get mode(): OutputMode {
    return this.#mode
  }

  /** Resolves when stdout or stderr cannot be written any more. Never rejects. */
  get broken(): Promise<Error> {
    return Promise.race([this.#out.sink.broken, this.#err.sink.broken])
  }

  /** Shows an event. Resolves when more may come: a slow stdout slows the reading of the stream. */
  async show(event: JobEvent): Promise<void> {
    switch (this.#mode) {
      case 'json':
        return await this.#out.sink.write(`${escapeC1(JSON.stringify(event))}\n`)
      case 'quiet':
        return event.type === 'job.succeeded' ? await this.value(event.result) : undefined
      case 'text':
        return await this.#showText(event)
    }
  }

  /** A line of the client's own, on stderr. It is not waited for: what it says must not be held up by the job's text. */
  line(text: string): void {
    const start = this.#startOfLine()
    void this.#err.sink.write(`${start}${text}\n`)
  }

  /** A row of what a command answers, on stdout. */
  async row(text: string): Promise<void> {
    await this.#out.sink.write(`${plainLine(text)}\n`)
  }

  /** A value on stdout: text as it is, anything else as one line of JSON. */
  async value(value: Json): Promise<void> {
    if (typeof value === 'string') await this.#text(this.#out, value.endsWith('\n') ? value : `${value}\n`)
    else await this.json(value)
  }

  async json(value: unknown, indent?: number): Promise<void> {
    await this.#out.sink.write(`${escapeC1(JSON.stringify(value, undefined, indent))}\n`)
  }

  /** Resolves when everything was handed over or the other end is gone. */
  async flush(): Promise<void> {
    void this.#err.sink.write(this.#startOfLine())
    await Promise.race([this.broken, Promise.all([this.#out.sink.flush(), this.#err.sink.flush()])])
  }

  async #showText(event: JobEvent): Promise<void> {
    switch (event.type) {
      case 'output':
        if (event.channel === 'stderr') return await this.#text(this.#err, event.text)
        return event.channel === 'reasoning' ? undefined : await this.#text(this.#out, event.text)
      case 'job.queued':
        if (event.position > 0) this.line(`waiting in the queue at position ${event.position}`)
        return
      case 'job.requeued':
        this.line(`started again (attempt ${event.attempt}): what was printed so far does not count`)
        return
      case 'gap':
        this.line(`events ${event.from} to ${event.to} are missing (${plainLine(event.reason)})`)
        return
      case 'artifact':
        this.line(`file ${plainLine(event.path)} (${event.bytes} bytes)`)
        return
      case 'tool.started':
        this.line(`[${plainLine(event.tool)}] ${escapeC1(JSON.stringify(event.input)).slice(0, MAX_INPUT_CHARS)}`)
        return
      case 'tool.finished':
        if (!event.ok) this.line(`[${plainLine(event.tool)}] failed: ${plainLine(event.summary)}`)
        return
      default:
        // The rest, and what a newer server may send, is for --json.
        return
    }
  }

  async #text(lane: Lane, text: string): Promise<void> {
    if (!lane.sink.isTerminal) return await lane.sink.write(text)
    const kept = lane.filter.filter(text)
    if (kept !== '') this.#isInLine = !kept.endsWith('\n')
    await lane.sink.write(kept)
  }

  #startOfLine(): string {
    if (!this.#err.sink.isTerminal) return ''
    const styled = this.#out.filter.isStyled || this.#err.filter.isStyled
    const start = `${styled ? RESET_COLOURS : ''}${this.#isInLine ? '\n' : ''}`
    this.#isInLine = false
    return start
  }
}
