import { StringDecoder } from 'node:string_decoder'
import { chunksOf } from './chunksOf.ts'
import type { Match, MatchedLines } from './MatchedLines.ts'
import type { ReadableFile } from './openFile.ts'

/** Of a line that does not end in this piece, so much is kept for the next one, to be shown with a match (UTF-16 units). */
const KEPT = 1024

/**
 * The lines of a file that match, as `lines` finds them. Lines may be of any length; neither they nor the file are ever in memory
 * as a whole. A file with a NUL in its first 64 KiB is binary: it has none, and `onBinary` is called.
 */
export async function* matchesIn(
  file: ReadableFile,
  lines: MatchedLines,
  { onBinary, signal }: { readonly onBinary: () => void; readonly signal: AbortSignal },
): AsyncGenerator<Match> {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  let isStart = true
  for await (const chunk of chunksOf(file, signal)) {
    if (isStart && chunk.includes(0)) {
      onBinary()
      return
    }
    isStart = false
    const text = rest + decoder.write(chunk)
    const end = endOfWholeLines(text)
    rest = text.slice(end)
    yield* lines.in(text.slice(0, end))
  }
  rest += decoder.end()
  // The last line need not have an end.
  if (rest !== '') yield* lines.in(`${rest}\n`)
}

/** How much of `text` is searched before there is more of it: its whole lines, or most of a line that is long. */
function endOfWholeLines(text: string): number {
  const end = text.lastIndexOf('\n') + 1
  if (end > 0 || text.length <= 2 * KEPT) return end
  const middle = text.length - KEPT
  return isLowSurrogate(text.charCodeAt(middle)) ? middle - 1 : middle
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff
}
