import type { Readable, Writable } from 'node:stream'

/** No message of ours comes near it (bytes): a result is 1 MiB, a batch of events less than half of that. */
export const MAX_LINE_BYTES = 4 * 1024 * 1024

const NEWLINE = 10

/** Writes `message` as one line of JSON. Nothing happens where the other end is gone: its exit says all there is to say. */
export function writeLine(pipe: Writable, message: object): void {
  writeJsonLine(pipe, JSON.stringify(message))
}

/** As `writeLine`, for what is JSON already. */
export function writeJsonLine(pipe: Writable, json: string): void {
  if (pipe.writable) pipe.write(`${json}\n`)
}

/**
 * What comes out of `pipe`, a value a line, until it has ended or broken; half a line at its end is nothing.
 * @throws {Error} at a line that is not JSON, or too long to be one of ours
 */
export async function* readLines(pipe: Readable): AsyncGenerator<unknown, void> {
  let parts: Buffer[] = []
  let bytes = 0
  for await (const chunk of untilGone(pipe)) {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      parts.push(chunk.subarray(start, end))
      assertLength(bytes + end - start)
      yield parse(parts)
      parts = []
      bytes = 0
      start = end + 1
    }
    if (start === chunk.length) continue
    parts.push(chunk.subarray(start))
    bytes += chunk.length - start
    assertLength(bytes)
  }
}

function parse(parts: readonly Buffer[]): unknown {
  const line = Buffer.concat(parts).toString('utf8')
  try {
    return JSON.parse(line)
  } catch (error) {
    throw new Error(`a message must be a line of JSON, got ${JSON.stringify(line.slice(0, 80))}`, { cause: error })
  }
}

function assertLength(bytes: number): void {
  if (bytes > MAX_LINE_BYTES) throw new Error(`a message may have ${MAX_LINE_BYTES} bytes, this one has more`)
}

/** The chunks up to the end. A socket whose other end died with something unread, or that we destroyed, has simply ended. */
async function* untilGone(pipe: Readable): AsyncGenerator<Buffer, void> {
  try {
    for await (const chunk of pipe) yield chunk
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code !== 'ERR_STREAM_PREMATURE_CLOSE' && code !== 'ECONNRESET' && code !== 'EPIPE') throw error
  }
}
