import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'

/** The pipe's chunks up to its end. A pipe that is destroyed while it is read, as the kill does, has simply ended. */
export async function* chunksIn(pipe: Readable): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of pipe) yield chunk
  } catch (error) {
    if (!isPrematureClose(error)) throw error
  }
}

/** The same as text, none of it empty. */
export async function* textIn(pipe: Readable): AsyncGenerator<string> {
  // A character may be parted between two chunks; the decoder keeps the first half back.
  const decoder = new StringDecoder('utf8')
  for await (const chunk of chunksIn(pipe)) {
    const text = decoder.write(chunk)
    if (text !== '') yield text
  }
  const rest = decoder.end()
  if (rest !== '') yield rest
}

function isPrematureClose(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE'
}
