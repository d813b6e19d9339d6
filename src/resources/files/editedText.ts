import { nearMiss } from './nearMiss.ts'
import { occurrencesOf } from './occurrencesOf.ts'
import { quotedPath } from './shownPath.ts'
import { ToolError } from './ToolError.ts'

export interface Edit {
  readonly oldText: string
  readonly newText: string
  /** Replaces every occurrence; by default there must be one. */
  readonly all?: boolean
}

export interface EditedText {
  readonly text: string
  readonly replacements: number
}

/** Past it, a program is the better tool. */
const MAX_REPLACEMENTS = 10_000

/** So many line numbers are named. */
const MAX_NAMED = 10

/**
 * `text` with `edit` made. Texts of an edit that have no CR in them mean the file's own line ends: where its first line ends with
 * CR LF, so do theirs. Texts that have one are taken as they are.
 * @throws {ToolError} where `oldText` is empty, the same as `newText`, not there, or there several times without `all`, overlaps
 * counted; where the result were longer than `maxLength` (UTF-16 units)
 */
export function editedText(
  text: string,
  edit: Edit,
  { path, maxLength }: { readonly path: string; readonly maxLength: number },
): EditedText {
  const { oldText, newText, all = false } = inEndingsOf(text, edit)
  assertChanges(oldText, newText)
  const found = occurrencesOf(text, oldText, all ? MAX_REPLACEMENTS + 1 : MAX_NAMED + 1)
  if (found.length === 0) throw notFound(text, edit.oldText, path)
  if (!all && found.length > 1) throw ambiguous(text, found, path)
  if (found.length > MAX_REPLACEMENTS) {
    throw new ToolError(
      `oldText is in ${quotedPath(path)} more than ${MAX_REPLACEMENTS} times, which is the most for one edit`,
    )
  }
  const starts = withoutOverlaps(found, oldText.length)
  const length = text.length + starts.length * (newText.length - oldText.length)
  if (length > maxLength) {
    throw new ToolError(`${quotedPath(path)} would have ${length} characters; at most ${maxLength} are written`)
  }
  return { text: spliced(text, starts, { oldText, newText }), replacements: starts.length }
}

function inEndingsOf(text: string, edit: Edit): Edit {
  const { oldText, newText } = edit
  const firstEnd = text.indexOf('\n')
  if (text[firstEnd - 1] !== '\r' || oldText.includes('\r') || newText.includes('\r')) return edit
  return { ...edit, oldText: oldText.replaceAll('\n', '\r\n'), newText: newText.replaceAll('\n', '\r\n') }
}

function assertChanges(oldText: string, newText: string): void {
  if (oldText === '')
    throw new ToolError('oldText is empty: expected is the text to be replaced; to make a file, write it')
  if (oldText === newText) throw new ToolError('oldText and newText are the same: there is nothing to change')
}

function withoutOverlaps(starts: readonly number[], length: number): number[] {
  let end = 0
  return starts.filter((start) => {
    if (start < end) return false
    end = start + length
    return true
  })
}

function spliced(text: string, starts: readonly number[], { oldText, newText }: Edit): string {
  const parts: string[] = []
  let end = 0
  for (const start of starts) {
    parts.push(text.slice(end, start), newText)
    end = start + oldText.length
  }
  return parts.join('') + text.slice(end)
}

function ambiguous(text: string, found: readonly number[], path: string): ToolError {
  const lines = found.slice(0, MAX_NAMED).map((index) => lineOf(text, index))
  const more = found.length > MAX_NAMED ? ' and more' : ''
  return new ToolError(
    `oldText is in ${quotedPath(path)} several times, beginning in the lines ${lines.join(', ')}${more}: ` +
      'add lines around it that make it unique, or set all to replace every one',
  )
}

function notFound(text: string, oldText: string, path: string): ToolError {
  const hint = hintFor(text, oldText)
  return new ToolError(
    `oldText is not in ${quotedPath(path)}${hint === undefined ? ': read the file and take the text exactly as it is' : `, but ${hint}`}`,
  )
}

function hintFor(text: string, oldText: string): string | undefined {
  if (/^\s*\d+\t/.test(oldText))
    return 'it begins with a line number: leave out the numbers and tabs that reading puts first'
  const miss = nearMiss(text, oldText)
  if (miss === undefined) return undefined
  const from = lineOf(text, miss.from)
  const to = lineOf(text, miss.to - 1)
  const lines = from === to ? `line ${from} differs` : `the lines ${from} to ${to} differ`
  return `${lines} from it in white space alone; there it is ${JSON.stringify(text.slice(miss.from, miss.to))}`
}

function lineOf(text: string, index: number): number {
  let line = 1
  for (let at = text.indexOf('\n'); at !== -1 && at < index; at = text.indexOf('\n', at + 1)) line += 1
  return line
}
