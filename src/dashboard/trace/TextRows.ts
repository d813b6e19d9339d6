import { TerminalFilter } from '../../client/TerminalFilter.ts'
import type { OutputChannel } from '../../job/event.ts'
import type { TextRow } from './row.ts'

/** A row that is drawn at once stays small: a long output is many of them, of which a page holds those in view. */
const MAX_ROW_LINES = 40
const MAX_ROW_CHARS = 4000

/**
 * Text as rows of a few dozen lines each. What a terminal would act on is taken out, also where it comes in pieces; a line that
 * was drawn over (a carriage return without a line end) is what was drawn last.
 */
export class TextRows {
  readonly #channel: OutputChannel
  readonly #filter = new TerminalFilter({ keepsColours: false })
  /** The last text ended in CR: what follows decides whether that was a line end. */
  #isReturning = false

  constructor(channel: OutputChannel) {
    this.#channel = channel
  }

  /** Continues `last` where that is a row of this channel that has room, and gives the rows that were begun. */
  append(last: TextRow | undefined, text: string): { readonly begun: readonly TextRow[]; readonly isChanged: boolean } {
    const begun: TextRow[] = []
    let row = last
    let isChanged = false
    for (const [line] of this.#lines(text)) {
      for (let at = 0; at < line.length; ) {
        if (row === undefined || row.lines >= MAX_ROW_LINES || row.text.length >= MAX_ROW_CHARS) {
          row = { kind: 'text', channel: this.#channel, text: '', lines: 0 }
          begun.push(row)
        }
        if (this.#isReturning && line[at] !== '\n') row.text = row.text.slice(0, row.text.lastIndexOf('\n') + 1)
        this.#isReturning = false
        const piece = line.slice(at, at + MAX_ROW_CHARS - row.text.length)
        row.text += piece
        if (piece.endsWith('\n')) row.lines += 1
        if (row === last) isChanged = true
        at += piece.length
      }
      if (line === '') this.#isReturning = true
    }
    return { begun, isChanged }
  }

  /** Each line with its end; a bare return as an empty one. */
  *#lines(text: string): Generator<readonly [string]> {
    const clean = this.#filter.filter(text)
    for (const [piece] of clean.matchAll(/[^\r\n]*\n|[^\r\n]+|\r+/g)) yield [piece.startsWith('\r') ? '' : piece]
  }
}
