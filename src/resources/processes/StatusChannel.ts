import type { Readable } from 'node:stream'

/**
 * What a wrapper has as its standard error, while the program's own is another pipe: so no word of a wrapper is ever taken for
 * the program's. It writes `.` once the containment holds and the program is about to run, and later, where the level has an
 * init of its own, the program's exit code and a newline. Anything else is a complaint.
 */
export interface StatusChannel {
  /** Settles true at the `.`, false where the wrapper ended without. */
  readonly started: Promise<boolean>
  /** What has been written so far, for where it went wrong. */
  words(): string
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
    const code = /^\.(\d+)\n/.exec(text)?.[1]
    if (code !== undefined) exitCode.resolve(Number(code))
  })
  // A pipe that breaks has told us all it could; `close` follows.
  pipe.on('error', () => {})
  pipe.on('close', () => {
    started.resolve(false)
    exitCode.resolve(undefined)
  })
  return { started: started.promise, exitCode: exitCode.promise, words: () => text.trim(), close: () => pipe.destroy() }
}
