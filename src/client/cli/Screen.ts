import type { Json } from '../../job/json.ts'
import { escapeControls, plainLine } from '../plainText.ts'
import type { LiveRow } from './LiveRegion.ts'
import { NO_PAINT, PAINT, type Paint } from './Paint.ts'
import type { Sink } from './Sink.ts'
import { type Lane, Surface } from './Surface.ts'
import { paragraphOf, rowsOf } from './textWidth.ts'

/** How wide a row of our own may be where no terminal says. */
const PLAIN_COLUMNS = 200

/** What terminals are for: colours of our own, and rows that change while something goes on. */
export interface Look {
  readonly isColoured: boolean
  readonly isLive: boolean
}

/**
 * What the user sees: the job's text on stdout and stderr, the client's own rows on stderr between its lines. Where both are one
 * terminal, pipe or file they are written through one of them, so that they come out in the order in which they were said.
 */
export class Screen {
  readonly #out: Lane
  readonly #err: Lane
  readonly #sinks: readonly Sink[]
  readonly paint: Paint

  constructor(out: Sink, err: Sink, look: Look = { isColoured: false, isLive: false }) {
    const isOnePlace = out.place !== undefined && out.place === err.place
    const surface = new Surface(isOnePlace ? out : err, look)
    this.#err = surface.lane()
    this.#out = (isOnePlace ? surface : new Surface(out, { isLive: false })).lane()
    this.#sinks = [out, err]
    this.paint = look.isColoured && err.isTerminal ? PAINT : NO_PAINT
  }

  /** Whether rows of our own are on a terminal that shows what goes on. */
  get isLive(): boolean {
    return this.#err.surface.isLive
  }

  /** Whether rows of our own are on a terminal. */
  get isTerminal(): boolean {
    return this.#err.surface.sink.isTerminal
  }

  /** How wide a row of our own may be. The last column stays free: terminals differ in what follows a full row. */
  get columns(): number {
    const { sink } = this.#err.surface
    return sink.isTerminal ? Math.max(1, sink.size.columns - 1) : PLAIN_COLUMNS
  }

  /** Resolves when stdout or stderr cannot be written any more. Never rejects. */
  get broken(): Promise<Error> {
    return Promise.race(this.#sinks.map((sink) => sink.broken))
  }

  /** The job's own text, as it is. Resolves when more may come: a slow stdout slows the reading of the stream. */
  async text(channel: 'stdout' | 'stderr', text: string): Promise<void> {
    const { surface, filter } = channel === 'stdout' ? this.#out : this.#err
    await surface.text(filter, text)
  }

  /** The job's text has come to an end of its own: on a terminal, what it says next begins a line. */
  async endText(): Promise<void> {
    const { surface } = this.#out
    // Elsewhere its bytes are as they came.
    if (surface === this.#err.surface || surface.sink.isTerminal) await surface.endLine()
  }

  /** A line of the client's own, on stderr. It is not waited for: what it says must not be held up by the job's text. */
  line(text: string): void {
    void this.rows(this.paragraph(text, this.columns))
  }

  /** A text in rows of so many columns. On a pipe it is one row: nothing breaks it there, and who reads it may look for it. */
  paragraph(text: string, columns: number): string[] {
    return this.isTerminal ? paragraphOf(text, columns) : [text]
  }

  /** The same character by character, for what has a form of its own. */
  folded(text: string, columns: number): string[] {
    return this.isTerminal ? rowsOf(text, columns) : [text]
  }

  /** Rows on stderr, at once, one under another. Resolves when more may come. */
  async rows(rows: readonly string[]): Promise<void> {
    await this.#err.surface.rows(rows)
  }

  /** The same for a voice besides the job's own: they do not come between the parts of a line that the job is saying. */
  async rowsBetweenLines(rows: readonly string[]): Promise<void> {
    await this.#err.surface.rowsBetweenLines(rows)
  }

  /** Shows what goes on where that can be shown. Returns its undo. */
  addLive(row: LiveRow): () => void {
    return this.#err.surface.addLive(row)
  }

  /** The program was halted (Ctrl+Z) and goes on: a shell has written to the terminal meanwhile. */
  resume(): void {
    this.#err.surface.redraw()
  }

  /** A row of what a command answers, on stdout. */
  async row(text: string): Promise<void> {
    await this.#out.surface.sink.write(`${plainLine(text)}\n`)
  }

  /** A value on stdout: text as it is, anything else as one line of JSON. */
  async value(value: Json): Promise<void> {
    if (typeof value === 'string') await this.text('stdout', value.endsWith('\n') ? value : `${value}\n`)
    else await this.json(value)
  }

  async json(value: unknown, indent?: number): Promise<void> {
    await this.#out.surface.sink.write(`${escapeControls(JSON.stringify(value, undefined, indent))}\n`)
  }

  /** Resolves when everything was handed over or the other end is gone. */
  async flush(): Promise<void> {
    const surfaces = new Set([this.#err.surface, this.#out.surface])
    await Promise.race([this.broken, Promise.all([...surfaces].map((surface) => surface.flush()))])
  }
}
