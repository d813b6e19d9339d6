import type { Readable } from 'node:stream'

/**
 * The fourth pipe of a wrapper: it writes `.` once the containment holds and the program is about to run, and later, where the
 * level has an init of its own, the program's exit code and a newline. The program itself never has it.
 */
export interface StatusChannel {
  /** Settles true at the `.`, false where the wrapper ended without. */
  readonly started: Promise<boolean>
  /** Settles with the exit code, or undefined where the wrapper ended without. */
  readonly exitCode: Promise<number | undefined>
  /** Tells an init that waits at the other end to go. */
  close(): void
}

export function listen(pipe: Readable): StatusChannel {
  const started = Promise.withResolvers<boolean>()
  const exitCode = Promise.withResolvers<number | undefined>()
  let text = ''
  pipe.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
    if (text.startsWith('.')) started.resolve(true)
    if (text.endsWith('\n')) exitCode.resolve(Number(text.slice(1)))
  })
  // A pipe that breaks has told us all it could; `close` follows.
  pipe.on('error', () => {})
  pipe.on('close', () => {
    started.resolve(false)
    exitCode.resolve(undefined)
  })
  return { started: started.promise, exitCode: exitCode.promise, close: () => pipe.destroy() }
}
