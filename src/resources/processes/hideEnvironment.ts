import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { envStartOf } from './procfs.ts'

/**
 * Takes the values of the variables that `isHarmless` does not name out of what `/proc/PID/environ` shows of this process, which
 * every process of the same user may read, those of jobs too. `process.env` has them as before. Linux only. Gives whether they are
 * gone. Call it before other code runs that may have kept a pointer into the environment.
 */
export function hideEnvironment(isHarmless: (name: string) => boolean): boolean {
  if (process.platform !== 'linux') return false
  try {
    const shown = readFileSync('/proc/self/environ')
    const start = envStartOf('self')
    if (start === undefined) return false
    const memory = openSync('/proc/self/mem', 'r+')
    try {
      for (const { name, valueAt, length } of entriesOf(shown)) {
        if (isHarmless(name) || length === 0) continue
        const value = process.env[name]
        // Set anew it gets memory of its own, and nothing of this process looks at the old one any more.
        if (value !== undefined) process.env[name] = value
        writeSync(memory, Buffer.alloc(length), 0, length, start + valueAt)
      }
    } finally {
      closeSync(memory)
    }
    return entriesOf(readFileSync('/proc/self/environ')).every(({ name, length }) => isHarmless(name) || length === 0)
  } catch (error) {
    // A kernel may be set up to let nobody write there.
    if (error instanceof Error && 'code' in error) return false
    throw error
  }
}

interface Entry {
  readonly name: string
  /** Where its value begins, and how long it is (bytes). */
  readonly valueAt: number
  readonly length: number
}

/** The entries `NAME=VALUE`, each ended by NUL. */
function entriesOf(environ: Buffer): readonly Entry[] {
  const entries: Entry[] = []
  for (let at = 0; at < environ.length; ) {
    const found = environ.indexOf(0, at)
    const end = found === -1 ? environ.length : found
    const equals = environ.subarray(at, end).indexOf('=')
    if (equals > 0) {
      const valueAt = at + equals + 1
      entries.push({ name: environ.toString('utf8', at, at + equals), valueAt, length: end - valueAt })
    }
    at = end + 1
  }
  return entries
}
