import { StringDecoder } from 'node:string_decoder'
import { chunksOf } from './chunksOf.ts'
import type { FileLimits } from './limits.ts'
import { NumberedLines } from './NumberedLines.ts'
import type { ReadableFile } from './openFile.ts'
import { quotedPath } from './shownPath.ts'
import { ToolError } from './ToolError.ts'

export interface ReadOptions {
  /** From 1, which is the default. */
  readonly firstLine?: number
  /** From 1; default, and at most, 2000. */
  readonly maxLines?: number
}

export interface ReadResult {
  /** For the model: the lines with their numbers, then a note in square brackets where some are left out. */
  readonly text: string
  /** How many lines of the file are in `text`. */
  readonly lines: number
  /** Whether the file has more lines behind these. */
  readonly isCut: boolean
}

/** @throws {ToolError} where the file is not text, or has no line `firstLine` */
export async function readNumbered(
  file: ReadableFile,
  request: ReadOptions & { readonly path: string; readonly limits: FileLimits; readonly signal: AbortSignal },
): Promise<ReadResult> {
  const { path, limits, signal } = request
  const firstLine = wholeNumber('firstLine', request.firstLine ?? 1)
  const maxLines = Math.min(wholeNumber('maxLines', request.maxLines ?? limits.maxReadLines), limits.maxReadLines)
  const lines = new NumberedLines({
    firstLine,
    maxLines,
    maxBytes: limits.maxAnswerBytes,
    maxLineLength: limits.maxLineLength,
  })
  const decoder = new StringDecoder('utf8')
  let isStart = true
  for await (const chunk of chunksOf(file, signal)) {
    if (chunk.includes(0)) throw binary(path)
    const text = decoder.write(chunk)
    if (!lines.push(isStart ? withoutMark(text) : text)) break
    isStart = false
  }
  lines.push(decoder.end())
  lines.end()
  return answer(lines, { firstLine, path, bytes: file.info.size })
}

function answer(lines: NumberedLines, file: { firstLine: number; path: string; bytes: number }): ReadResult {
  const { count, isCut, text } = lines
  const { firstLine } = file
  if (count === 0) return { text: '[the file is empty]', lines: 0, isCut }
  if (count < firstLine) {
    throw new ToolError(
      `${quotedPath(file.path)} has no line ${firstLine}: firstLine must be from 1 to ${count}, its last line`,
    )
  }
  const more = `[cut after line ${count}: the file goes on, it has ${file.bytes} bytes; read on with firstLine ${count + 1}]`
  return { text: isCut ? `${text}\n${more}` : text, lines: count - firstLine + 1, isCut }
}

function binary(path: string): ToolError {
  return new ToolError(`${quotedPath(path)} is a binary file; expected is text`)
}

/** The byte order mark is no character of the text. */
function withoutMark(text: string): string {
  return text.startsWith('\uFEFF') ? text.slice(1) : text
}

function wholeNumber(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new ToolError(`${name} must be a whole number from 1, got ${value}`)
}
