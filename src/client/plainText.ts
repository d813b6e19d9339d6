/**
 * Characters that show nothing themselves and change what others look like: directions, tags, fillers, spaces without width.
 * Joiners and variation selectors stay, without which emoji and words of some languages fall apart.
 */
const INVISIBLE = /(?!\u200c|\u200d|\ufe0e|\ufe0f)[\p{Default_Ignorable_Code_Point}\ufff9-\ufffb]/gu
/** More marks on one character than any language has: they would stand over the lines around. */
const PILED = /((?:\p{M}|\u200c|\u200d){6})(?:\p{M}|\u200c|\u200d)+/gu
const CONTROLS = /[\p{Cc}\u2028\u2029]/gu
const SPACES = /[\p{Zs}\t]+/gu

/** What a job or a server wrote, fit for a row of the client's own: whatever it holds, it stays in its place of its row. */
export function plainText(text: string): string {
  return text.replace(CONTROLS, ' ').replace(INVISIBLE, '').replace(PILED, '$1').toWellFormed()
}

/** The same without space around it. */
export function plainLine(text: string): string {
  return plainText(text).trim()
}

/** The same with one space between words: what is set apart by more space stands apart. */
export function plainWords(text: string): string {
  return plainText(text).replace(SPACES, ' ').trim()
}

/** JSON escapes the controls below space by itself; these it leaves, and some terminals act on them. */
export function escapeControls(json: string): string {
  if (!hasControl(json)) return json
  let escaped = ''
  for (const character of json) {
    escaped += character >= '\x7f' && isControl(character) ? escapeOf(character) : character
  }
  return escaped
}

export function hasControl(text: string): boolean {
  for (let index = 0; index < text.length; index += 1) {
    if (isControl(text.charAt(index))) return true
  }
  return false
}

/** What a terminal acts on, but for line ends and tabs; also what turns the direction of what follows. */
export function isControl(character: string): boolean {
  if (character < ' ') return character !== '\n' && character !== '\t' && character !== '\r'
  if (character < '\x7f') return false
  return character <= '\x9f' || isDirection(character)
}

/** Embeddings, overrides and isolates of the bidirectional algorithm (Unicode Standard Annex 9, section 2). */
function isDirection(character: string): boolean {
  return (character >= '\u202a' && character <= '\u202e') || (character >= '\u2066' && character <= '\u2069')
}

function escapeOf(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
