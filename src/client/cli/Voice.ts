import type { OutputChannel } from '../../job/event.ts'
import type { LiveRow } from './LiveRegion.ts'
import { OutputLines } from './OutputLines.ts'
import type { Screen } from './Screen.ts'
import { widthOf } from './textWidth.ts'

/** How what one job says, and what is said of it, gets to the screen. */
export interface Voice {
  /** How wide a row of it may be. */
  readonly columns: number
  /** What the job itself says. Resolves when more may come. */
  text(channel: Exclude<OutputChannel, 'reasoning'>, text: string): Promise<void>
  /** The text so far is not gone on with. */
  endText(): Promise<void>
  /** Rows of the client's about it, which are cut to `columns`. Resolves when more may come. */
  rows(rows: readonly string[]): Promise<void>
  /** The same at once, whatever is being waited for. */
  rowsNow(rows: readonly string[]): void
  /** Returns its undo. */
  addLive(row: LiveRow): () => void
}

/** The job that is followed: its text is the output of the program, as it is. */
export class OwnVoice implements Voice {
  readonly #screen: Screen

  constructor(screen: Screen) {
    this.#screen = screen
  }

  get columns(): number {
    return this.#screen.columns
  }

  async text(channel: 'text' | 'stdout' | 'stderr', text: string): Promise<void> {
    await this.#screen.text(channel === 'stderr' ? 'stderr' : 'stdout', text)
  }

  async endText(): Promise<void> {
    await this.#screen.endText()
  }

  async rows(rows: readonly string[]): Promise<void> {
    await this.#screen.rows(rows)
  }

  rowsNow(rows: readonly string[]): void {
    void this.#screen.rows(rows)
  }

  addLive(row: LiveRow): () => void {
    return this.#screen.addLive(row)
  }
}

const INDENT = '  '

/**
 * A child job: all that it says goes to stderr line by line, each under its label, since others speak at the same time. What is
 * wider than the terminal goes on in rows that bear the label too.
 */
export class ChildVoice implements Voice {
  readonly #screen: Screen
  /** Such as `1.2`: the second child of the first. */
  readonly #label: string
  readonly #lines = new OutputLines()

  constructor(screen: Screen, label: string) {
    this.#screen = screen
    this.#label = label
  }

  get columns(): number {
    return Math.max(1, this.#screen.columns - widthOf(this.#margin(this.#screen.columns)))
  }

  async text(channel: 'text' | 'stdout' | 'stderr', text: string): Promise<void> {
    await this.#say(this.#lines.push(channel, text))
  }

  async endText(): Promise<void> {
    await this.#say(this.#lines.rest())
  }

  async rows(rows: readonly string[]): Promise<void> {
    await this.#screen.rowsBetweenLines(this.#labelled(rows))
  }

  rowsNow(rows: readonly string[]): void {
    void this.#screen.rows(this.#labelled(rows))
  }

  addLive(row: LiveRow): () => void {
    return this.#screen.addLive({
      head: (columns) => this.#within(columns, (room) => [row.head(room)]).join(''),
      tail: (columns) => this.#within(columns, (room) => row.tail(room)),
    })
  }

  async #say(lines: readonly string[]): Promise<void> {
    await this.rows(lines.flatMap((line) => this.#screen.folded(line, this.columns)))
  }

  #labelled(rows: readonly string[]): string[] {
    const margin = this.#painted(this.#margin(this.#screen.columns))
    return rows.map((row) => margin + row)
  }

  #within(columns: number, rowsFor: (room: number) => readonly string[]): string[] {
    const margin = this.#margin(columns)
    return rowsFor(Math.max(1, columns - widthOf(margin))).map((row) => this.#painted(margin) + row)
  }

  #painted(margin: string): string {
    return margin.replace(/\[.*\]/, (label) => this.#screen.paint.label(label))
  }

  /** At most half of the row. */
  #margin(columns: number): string {
    const depth = this.#label.split('.').length
    const indent = INDENT.repeat(Math.min(depth, Math.floor(columns / 10)))
    const room = Math.floor(columns / 2) - indent.length - '[] '.length
    const label = this.#label.length <= room ? this.#label : `…${this.#label.slice(-Math.max(1, room - 1))}`
    return `${indent}[${label}] `
  }
}
