import type { FileHandle } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { chunksIn } from '../../readPipe.ts'
import type { JobProcess } from '../../task.ts'
import type { Capture } from './Capture.ts'

/** A command that says more than this says it for ever, and would fill the disk. */
const MAX_RECORDED_BYTES = 64 * 1024 * 1024

/**
 * Writes what a process says, both channels, to `file`, which it closes, and to `capture`, until it has ended. One that says more
 * than `MAX_RECORDED_BYTES` is ended, and the file's last line says so; so is one whose output cannot be written. Settles
 * with why it was ended, if it was for the former; never rejects.
 */
export async function recordOutput(
  process: Pick<JobProcess, 'stdout' | 'stderr' | 'end'>,
  file: FileHandle,
  capture: Capture,
): Promise<string | undefined> {
  let bytes = 0
  let cutBecause: string | undefined
  const record = async (pipe: Readable): Promise<void> => {
    const decoder = new StringDecoder('utf8')
    for await (const chunk of chunksIn(pipe)) {
      if (bytes > MAX_RECORDED_BYTES) continue
      bytes += chunk.length
      capture.push(decoder.write(chunk))
      await file.appendFile(chunk)
      if (bytes <= MAX_RECORDED_BYTES) continue
      cutBecause = `it was ended, because it said more than ${MAX_RECORDED_BYTES} bytes`
      await file.appendFile(`\n… ${cutBecause} …\n`)
      void process.end()
    }
    capture.push(decoder.end())
  }
  // Where nobody reads on, a process would wait.
  const both = [process.stdout, process.stderr].map((pipe) => record(pipe).catch(() => void process.end()))
  await Promise.all(both)
  await file.close().catch(() => undefined)
  return cutBecause
}
