const ASCII = /^[ -~]*$/
const NO_CELL = /^(?:\p{Mn}|\p{Me}|\u200c|\u200d)$/u
/** East Asian wide and full-width characters (Unicode Standard Annex 11), as ranges; everything pictorial counts with them. */
const WIDE =
  /^[\u1100-\u115f\u2329\u232a\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{16fe0}-\u{18dff}\u{1aff0}-\u{1b2ff}\u{1d300}-\u{1d37f}\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}\p{Emoji_Presentation}]$/u
/** Makes the character before it an emoji, which is two cells wide in some terminals. */
const EMOJI_SELECTOR = '\ufe0f'

/**
 * How many cells of a terminal a plain text takes at the most. Terminals differ in emoji that are put together (a family is two
 * cells or six); what is counted is never less than they use, so that a row that fits here fits there.
 */
export function widthOf(text: string): number {
  if (ASCII.test(text)) return text.length
  let width = 0
  for (const character of text) width += cellsOf(character)
  return width
}

/** As much of it as fits, with … where something is missing. */
export function cutTo(text: string, columns: number): string {
  if (columns <= 0) return ''
  let width = 0
  let end = 0
  let roomy = 0
  for (const character of text) {
    width += cellsOf(character)
    if (width > columns) return `${text.slice(0, roomy)}…`
    end += character.length
    if (width < columns) roomy = end
  }
  return text
}

/** All of it, in rows that fit. */
export function rowsOf(text: string, columns: number): string[] {
  const rows: string[] = []
  let start = 0
  let end = 0
  let width = 0
  for (const character of text) {
    const cells = cellsOf(character)
    if (width + cells > columns && end > start) {
      rows.push(text.slice(start, end))
      start = end
      width = 0
    }
    width += cells
    end += character.length
  }
  rows.push(text.slice(start))
  return rows
}

/** What rows after the first begin with, so that none of them passes for a row of its own. */
const HANG = '  '

/** All of it, in rows that fit, parted between words where that can be. */
export function paragraphOf(text: string, columns: number): string[] {
  const rows: string[] = []
  let row = ''
  for (const word of text.split(' ')) {
    const longer = row === '' ? word : `${row} ${word}`
    if (widthOf(longer) <= columns) {
      row = longer
      continue
    }
    if (row.trim() !== '') rows.push(row)
    const pieces = rowsOf(word, Math.max(1, columns - HANG.length))
    rows.push(...pieces.slice(0, -1).map((piece) => HANG + piece))
    row = HANG + (pieces.at(-1) ?? '')
  }
  return [...rows, row]
}

function cellsOf(character: string): number {
  if (character >= ' ' && character <= '~') return 1
  if (character === EMOJI_SELECTOR) return 1
  if (NO_CELL.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}
