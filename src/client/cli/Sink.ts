import type { Writable } from 'node:stream'

/** stdout or stderr, written at the pace of whoever reads it. */
export interface Sink {
  readonly isTerminal: boolean
  /** Resolves when more may be written; never, once the other end is gone: `broken` tells. */
  write(text: string): Promise<void>
  /** Resolves when all of it was handed over. */
  flush(): Promise<void>
  /** Resolves, with the reason, when nothing can be written any more. Never rejects. */
  readonly broken: Promise<Error>
}

interface Handle {
  setBlocking(blocking: boolean): void
}

export function openSink(stream: Writable & { isTTY?: boolean }): Sink {
  // Node writes to a terminal with the whole process waiting. A terminal that is held (Ctrl+S) would then hold Ctrl+C too.
  if (stream.isTTY === true && '_handle' in stream && isHandle(stream._handle)) stream._handle.setBlocking(false)
  const broken = new Promise<Error>((resolve) => {
    // Stays for good: without a listener, a late EPIPE would end the process with a stack trace.
    stream.on('error', resolve)
  })
  return {
    isTerminal: stream.isTTY === true,
    broken,
    async write(text) {
      if (text === '' || stream.write(text)) return
      await new Promise<void>((resolve) => {
        stream.once('drain', resolve)
      })
    },
    async flush() {
      await new Promise<void>((resolve) => {
        stream.write('', () => resolve())
      })
    },
  }
}

function isHandle(value: unknown): value is Handle {
  return typeof value === 'object' && value !== null && 'setBlocking' in value
}
