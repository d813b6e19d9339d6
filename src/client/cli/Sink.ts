import { fstatSync } from 'node:fs'
import type { Writable } from 'node:stream'

export interface TerminalSize {
  readonly columns: number
  readonly rows: number
}

/** stdout or stderr, written at the pace of whoever reads it. */
export interface Sink {
  readonly isTerminal: boolean
  /** The same for two that write to one terminal, pipe or file. Undefined where that is not known. */
  readonly place: string | undefined
  /** Of the terminal, as it is now. */
  readonly size: TerminalSize
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

/** What a terminal is taken for that does not say. */
const USUAL_SIZE: TerminalSize = { columns: 80, rows: 24 }

type Output = Writable & {
  readonly isTTY?: boolean
  readonly fd?: number
  readonly columns?: number
  readonly rows?: number
}

export function openSink(stream: Output): Sink {
  // Node writes to a terminal with the whole process waiting. A terminal that is held (Ctrl+S) would then hold Ctrl+C too.
  if (stream.isTTY === true && '_handle' in stream && isHandle(stream._handle)) stream._handle.setBlocking(false)
  const broken = new Promise<Error>((resolve) => {
    // Stays for good: without a listener, a late EPIPE would end the process with a stack trace.
    stream.on('error', resolve)
  })
  let drained: Promise<void> | undefined
  return {
    isTerminal: stream.isTTY === true,
    place: placeOf(stream.fd),
    get size() {
      // A terminal that was given no size says 0.
      return { columns: stream.columns || USUAL_SIZE.columns, rows: stream.rows || USUAL_SIZE.rows }
    },
    broken,
    async write(text) {
      if (text === '' || stream.write(text)) return
      // One listener, however many wait: many jobs may be shown at once.
      drained ??= new Promise<void>((resolve) => {
        stream.once('drain', () => {
          drained = undefined
          resolve()
        })
      })
      await drained
    },
    async flush() {
      await new Promise<void>((resolve) => {
        stream.write('', () => resolve())
      })
    },
  }
}

function placeOf(fd: number | undefined): string | undefined {
  if (fd === undefined) return undefined
  const { dev, ino } = fstatSync(fd)
  return `${dev}:${ino}`
}

function isHandle(value: unknown): value is Handle {
  return typeof value === 'object' && value !== null && 'setBlocking' in value
}
