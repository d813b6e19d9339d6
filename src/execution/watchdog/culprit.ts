import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** One call of a stack, the innermost first. Lines and columns count from 1. */
export interface Frame {
  readonly functionName: string
  /** As the module loader names it; empty for code made from a text. */
  readonly url: string
  readonly line: number
  readonly column: number
}

export interface Place {
  readonly function: string
  /** A path, or what the module loader calls it where it is no file. */
  readonly file: string
  readonly line: number
}

/** The folder of this program's own code. */
const OWN_ROOT = `${pathToFileURL(join(import.meta.dirname, '..', '..')).href}/`

/**
 * Whose line to name: the innermost one that somebody here wrote, so neither Node's nor a package's, and an author's before this
 * program's, which was called by it. Where there is none of them, the innermost that has a file at all.
 */
export function culpritOf(frames: readonly Frame[]): Place | undefined {
  const inFiles = frames.filter((frame) => frame.url !== '')
  const written = inFiles.filter(({ url }) => !url.startsWith('node:') && !url.includes('/node_modules/'))
  const frame = written.find(({ url }) => !url.startsWith(OWN_ROOT)) ?? written[0] ?? inFiles[0]
  if (frame === undefined) return undefined
  return { function: nameOf(frame), file: fileOf(frame), line: frame.line }
}

/** As a stack trace writes it. */
export function describeFrame(frame: Frame): string {
  return `${nameOf(frame)} (${fileOf(frame)}:${frame.line}:${frame.column})`
}

function nameOf({ functionName }: Frame): string {
  return functionName === '' ? '(anonymous)' : functionName
}

function fileOf({ url }: Frame): string {
  if (url === '') return 'no file'
  return url.startsWith('file://') ? fileURLToPath(url) : url
}
