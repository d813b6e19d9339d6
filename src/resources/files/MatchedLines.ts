import type { LoopTurns } from './LoopTurns.ts'
import type { LineMatcher } from './pattern/LineMatcher.ts'

export interface Match {
  /** From 1. */
  readonly line: number
  /** The line, or of a long one what is around the match's end, with `…` where something was left out. */
  readonly text: string
}

export interface MatchedLinesOptions {
  readonly turns: LoopTurns
  /** Of a match's text, UTF-16 units. */
  readonly maxLength: number
  /** Asked between turns; whether to go on. It may throw, too. */
  readonly goesOn: () => boolean
}

/** How far the matcher goes between two looks at the clock (UTF-16 units): 0.1 ms for one that has filled its table. */
const STRIDE = 16 * 1024

/** Of what is shown of a long line, so much is before the match's end. */
const SHARE_BEFORE = 2 / 3

/** What a cut leaves of a character of two units. */
const HALF_CHARACTERS = /^[\udc00-\udfff]|[\ud800-\udbff]$/g

/** The lines of one text that match, each once. The text comes in pieces; a CR LF or a character must not be parted between two. */
export class MatchedLines {
  readonly #matcher: LineMatcher
  readonly #options: MatchedLinesOptions
  /** The number of the line that was told or looked for last. */
  #line = 1
  /** Whether that line began in an earlier piece. */
  #isInLine = false
  /** The line was told already, so the rest of it does not matter. */
  #isTold = false

  constructor(matcher: LineMatcher, options: MatchedLinesOptions) {
    this.#matcher = matcher
    this.#options = options
    matcher.beginLine()
  }

  /** Ends early where `goesOn` says so. */
  async *in(text: string): AsyncGenerator<Match> {
    const { turns, goesOn } = this.#options
    await turns.take()
    // Where the line begins that was told or looked for last.
    let lineStart = 0
    for (let at = 0; at < text.length && goesOn(); ) {
      if (turns.isOver) await turns.take()
      if (this.#isTold) {
        const end = text.indexOf('\n', at)
        if (end === -1) break
        at = end + 1
        this.#isTold = false
        this.#matcher.beginLine()
        continue
      }
      at = this.#matcher.advance(text, at, Math.min(at + STRIDE, text.length))
      if (!this.#matcher.hasMatched) continue
      lineStart = this.#countLines(text, lineStart, at)
      yield { line: this.#line, text: this.#excerpt(text, lineStart, at) }
      this.#isTold = true
    }
    lineStart = this.#countLines(text, lineStart, text.length)
    if (lineStart < text.length) this.#isInLine = true
  }

  /** Returns where the last line begins that begins between `from`, where one does, and `to`. */
  #countLines(text: string, from: number, to: number): number {
    let start = from
    for (let end = text.indexOf('\n', start); end !== -1 && end < to; end = text.indexOf('\n', start)) {
      this.#line += 1
      this.#isInLine = false
      start = end + 1
    }
    return start
  }

  #excerpt(text: string, lineStart: number, matchEnd: number): string {
    const { maxLength } = this.#options
    const newline = text.indexOf('\n', matchEnd)
    const lineEnd = newline === -1 ? text.length : newline
    const from = Math.max(
      lineStart,
      lineEnd - lineStart > maxLength ? matchEnd - Math.floor(maxLength * SHARE_BEFORE) : 0,
    )
    const to = Math.min(lineEnd, from + maxLength)
    const shown = text.slice(from, to).replaceAll(HALF_CHARACTERS, '')
    const isWholeEnd = newline !== -1 && to === lineEnd
    return [
      this.#isInLine || from > lineStart ? '…' : '',
      isWholeEnd && shown.endsWith('\r') ? shown.slice(0, -1) : shown,
      isWholeEnd ? '' : '…',
    ].join('')
  }
}
