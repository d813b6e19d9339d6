import { occurrencesOf } from './occurrencesOf.ts'

/** A longer text is not looked through: it would hold up the event loop for more than a few milliseconds (UTF-16 units). */
const MAX_TEXT_LENGTH = 256 * 1024

/** What is shown of a near miss, at most (UTF-16 units): a hint, and not the file. */
const MAX_LENGTH = 4000

const WHITE_SPACE = /\s+/g

/**
 * Where the first part of `text` is that would be `wanted` if white space did not count, from its first character that does to
 * its last, as indexes; undefined where there is none, it is long, or `text` is.
 */
export function nearMiss(text: string, wanted: string): { readonly from: number; readonly to: number } | undefined {
  const dense = wanted.replaceAll(WHITE_SPACE, '')
  if (dense === '' || text.length > MAX_TEXT_LENGTH) return undefined
  const [start] = occurrencesOf(text.replaceAll(WHITE_SPACE, ''), dense, 1)
  if (start === undefined) return undefined
  const from = indexOfDense(text, start)
  const to = indexOfDense(text, start + dense.length - 1) + 1
  return to - from > MAX_LENGTH ? undefined : { from, to }
}

/** Where in `text` the character is that would have this index without white space. */
function indexOfDense(text: string, denseIndex: number): number {
  let left = denseIndex
  let end = 0
  for (const { 0: space, index } of text.matchAll(WHITE_SPACE)) {
    if (left < index - end) break
    left -= index - end
    end = index + space.length
  }
  return end + left
}
