import { parse } from 'node:path'

/** File systems allow 255 bytes. */
const MAX_NAME_BYTES = 120
const MAX_EXTENSION_BYTES = 20

/**
 * The name of a file that a site gave, without what could lead elsewhere, hide it, or be more than a name to a shell or a terminal;
 * with a number where the first is taken.
 */
export function safeName(wanted: string, number = 1): string {
  const plain = wanted
    .normalize('NFC')
    .replaceAll(/[^\p{L}\p{N}._ ()+-]/gu, '_')
    .replace(/^[\s._-]+/, '')
    .trim()
  const { name, ext } = parse(plain === '' ? 'file' : plain)
  const end = `${number === 1 ? '' : `-${number}`}${cut(ext, MAX_EXTENSION_BYTES)}`
  return `${cut(name, MAX_NAME_BYTES - Buffer.byteLength(end))}${end}`
}

function cut(text: string, maxBytes: number): string {
  let kept = ''
  let bytes = 0
  for (const character of text) {
    bytes += Buffer.byteLength(character)
    if (bytes > maxBytes) break
    kept += character
  }
  return kept
}
