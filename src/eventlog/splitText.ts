/**
 * Cuts `text` into pieces of at most `maxLength` UTF-16 units without parting a surrogate pair: each half alone would be
 * written as a replacement character, and the text would no longer be exact.
 */
export function splitText(text: string, maxLength: number): string[] {
  if (text.length <= maxLength) return [text]
  const pieces: string[] = []
  let start = 0
  while (start < text.length) {
    let end = Math.min(start + maxLength, text.length)
    if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end -= 1
    pieces.push(text.slice(start, end))
    start = end
  }
  return pieces
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff
}
