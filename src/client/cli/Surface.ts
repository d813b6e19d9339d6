import { pause } from '../pause.ts'
import { TerminalFilter } from '../TerminalFilter.ts'
import { LiveRegion, type LiveRow } from './LiveRegion.ts'
import type { Sink } from './Sink.ts'

const RESET_COLOURS = '\x1b[0m'
/** So long may the job's text be silent in the middle of a line before a line of another voice breaks it. */
const MAX_HOLD_MS = 1000

/** Text of the job on its way to a surface. Sequences may be cut between two pieces, so each channel has its own. */
export interface Lane {
  readonly surface: Surface
  readonly filter: TerminalFilter
}

/**
 * A terminal, a pipe or a file that takes text of the job and rows of the client's own. A row never goes on a line of the text.
 * On a terminal the text is filtered, and what goes on is drawn below everything else.
 */
export class Surface {
  readonly #sink: Sink
  readonly #region: LiveRegion | undefined
  /** The last text did not end its line. */
  #isInLine = false
  /** The filters of texts that came since the colours were last set back. */
  readonly #styling = new Set<TerminalFilter>()
  #textAtMs = 0
  #lineEnd = Promise.withResolvers<void>()
  #writesUnderWay = 0

  constructor(sink: Sink, options: { readonly isLive: boolean }) {
    this.#sink = sink
    this.#region = options.isLive && sink.isTerminal ? new LiveRegion(() => this.#repaint()) : undefined
  }

  get sink(): Sink {
    return this.#sink
  }

  get isLive(): boolean {
    return this.#region !== undefined
  }

  lane(): Lane {
    return { surface: this, filter: new TerminalFilter() }
  }

  /** Resolves when more may come. */
  async text(filter: TerminalFilter, text: string): Promise<void> {
    const shown = this.#sink.isTerminal ? filter.filter(text) : text
    if (shown === '') return
    const start = this.#region?.erase() ?? ''
    this.#textAtMs = performance.now()
    this.#setInLine(!shown.endsWith('\n'))
    this.#styling.add(filter)
    await this.#write(`${start}${shown}${this.#redrawn()}`)
  }

  /** Rows of our own, at once. Resolves when more may come. */
  async rows(rows: readonly string[]): Promise<void> {
    if (rows.length === 0) return
    const start = `${this.#region?.erase() ?? ''}${this.#startOfLine()}`
    await this.#write(`${start}${rows.join('\n')}\n${this.#redrawn()}`)
  }

  /** The same, once the job's text is at the end of a line, or silent for a second. */
  async rowsBetweenLines(rows: readonly string[]): Promise<void> {
    while (this.#isInLine) {
      const leftMs = this.#textAtMs + MAX_HOLD_MS - performance.now()
      if (leftMs <= 0) break
      await this.#lineEndWithin(leftMs)
    }
    await this.rows(rows)
  }

  /** What the job says next begins a line. */
  async endLine(): Promise<void> {
    if (this.#isInLine) await this.#write(`${this.#startOfLine()}${this.#redrawn()}`)
  }

  /** Returns its undo. Without a terminal, nothing goes on visibly. */
  addLive(row: LiveRow): () => void {
    return this.#region?.add(row) ?? (() => {})
  }

  /** Others have written to the terminal: what goes on is drawn anew below. */
  redraw(): void {
    if (this.#region !== undefined) void this.#write(`${this.#region.abandon()}${this.#redrawn()}`)
  }

  /** Leaves the cursor at the start of a line. Resolves when everything was handed over. */
  async flush(): Promise<void> {
    const end = this.#sink.isTerminal ? this.#startOfLine() : ''
    await this.#sink.write(`${this.#region?.erase() ?? ''}${end}`)
    await this.#sink.flush()
  }

  #startOfLine(): string {
    const start = `${this.#ownColours()}${this.#isInLine ? '\n' : ''}`
    this.#setInLine(false)
    return start
  }

  #ownColours(): string {
    const isStyled = [...this.#styling].some((filter) => filter.isStyled)
    this.#styling.clear()
    return isStyled ? RESET_COLOURS : ''
  }

  #setInLine(isInLine: boolean): void {
    if (isInLine === this.#isInLine) return
    this.#isInLine = isInLine
    if (isInLine) return
    this.#lineEnd.resolve()
    this.#lineEnd = Promise.withResolvers()
  }

  async #lineEndWithin(ms: number): Promise<void> {
    const waiting = new AbortController()
    await Promise.race([this.#lineEnd.promise, pause(ms, waiting.signal).catch(() => {})])
    waiting.abort()
  }

  #redrawn(): string {
    const drawn = this.#isInLine ? '' : (this.#region?.draw(this.#sink.size) ?? '')
    return drawn === '' ? '' : this.#ownColours() + drawn
  }

  /** A terminal that is still busy with what was written before is spared. */
  #repaint(): void {
    if (this.#writesUnderWay === 0) void this.#write(this.#redrawn())
  }

  async #write(text: string): Promise<void> {
    this.#writesUnderWay += 1
    await this.#sink.write(text)
    this.#writesUnderWay -= 1
  }
}
