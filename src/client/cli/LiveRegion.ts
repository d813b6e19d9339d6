import type { TerminalSize } from './Sink.ts'

/** Something that goes on, shown at the end of what stands on the terminal until it is over. */
export interface LiveRow {
  /** One row, of at most so many cells. */
  head(columns: number): string
  /** What it said last, oldest first, one row each. */
  tail(columns: number): readonly string[]
}

const TICK_MS = 200
const MAX_ROWS = 10
const MAX_TAIL_ROWS = 3
/** A key that the terminal echoes (^C) shall not begin a new row. */
const ECHO_COLUMNS = 2

/** Row by row: what is cleared from the top of the screen to its end at once, tmux keeps in its history. */
const CLEAR_ROW = '\r\x1b[2K'
const ROW_ABOVE = '\x1b[A'
/** A row that is wider than was counted is cut by the terminal: were it wrapped, the way back up would be too short. */
const NO_WRAP = '\x1b[?7l'
const WRAP = '\x1b[?7h'

/**
 * The last rows of a terminal, drawn again and again: what they hold, and the text that draws them and takes them away. Whoever
 * writes it sees to it that they are drawn from the start of a row and taken away before anything else is written.
 */
export class LiveRegion {
  readonly #onTick: () => void
  readonly #rows = new Set<LiveRow>()
  #timer: NodeJS.Timeout | undefined
  #drawnRows = 0

  /** `onTick`: it is time to draw it again. */
  constructor(onTick: () => void) {
    this.#onTick = onTick
  }

  /** Returns its undo. The row is still drawn until something else is written, or the next tick. */
  add(row: LiveRow): () => void {
    this.#rows.add(row)
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS)
    return () => this.#rows.delete(row)
  }

  /** Takes the rows away; the cursor stands where they began. */
  erase(): string {
    const rows = Array.from({ length: this.#drawnRows }, () => CLEAR_ROW)
    this.#drawnRows = 0
    return rows.join(ROW_ABOVE)
  }

  /** Leaves the rows where they are: others have written below. Where there were any, the cursor goes on in a line of its own. */
  abandon(): string {
    const end = this.#drawnRows === 0 ? '' : '\n'
    this.#drawnRows = 0
    return end
  }

  /** Draws the rows, in the place of those that are drawn. */
  draw(size: TerminalSize): string {
    const erased = this.erase()
    const rows = this.#rowsFor(size)
    this.#drawnRows = rows.length
    return rows.length === 0 ? erased : `${erased}${NO_WRAP}${rows.join('\n')}${WRAP}`
  }

  #tick(): void {
    this.#onTick()
    if (this.#rows.size > 0 || this.#drawnRows > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** The newest are shown, and under the one of them that speaks, what it said. */
  #rowsFor({ columns, rows }: TerminalSize): string[] {
    const width = Math.max(1, columns - ECHO_COLUMNS - 1)
    const room = Math.max(1, Math.min(MAX_ROWS, rows - 1))
    const all = [...this.#rows]
    const shown = all.length > room ? all.slice(all.length - room + 1) : all
    const hidden = all.length - shown.length
    const speaker = shown.findLast((row) => row.tail(width).length > 0)
    const tailRoom = Math.max(0, Math.min(MAX_TAIL_ROWS, room - all.length))
    const drawn = shown.flatMap((row) => {
      const tail = row === speaker && tailRoom > 0 ? row.tail(width).slice(-tailRoom) : []
      return [row.head(width), ...tail]
    })
    return hidden === 0 ? drawn : [`… and ${hidden} more`.slice(0, width), ...drawn]
  }
}
