import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { writeAll } from '../../src/execution/watchdog/report.ts'

const CHUNK = Buffer.alloc(4096, 'x')

/** Both ends of a pipe that blocks nobody, so full that not another byte goes in. */
function openFullPipe(): number {
  const folder = mkdtempSync(join(tmpdir(), 'tether-pipe-'))
  const path = join(folder, 'pipe')
  execFileSync('sh', ['-c', 'mkfifo "$0"', path])
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  onTestFinished(() => {
    closeSync(fd)
    rmSync(folder, { recursive: true, force: true })
  })
  try {
    for (;;) writeSync(fd, CHUNK)
  } catch {
    // It is full: EAGAIN.
    return fd
  }
}

test.skipIf(process.platform === 'win32')('a line waits for a reader that is slow, and comes whole', () => {
  const fd = openFullPipe()
  const line = `${'long '.repeat(3000)}\n`
  let text = ''
  const read = (): void => {
    const bytes = readSync(fd, CHUNK)
    text += CHUNK.toString('latin1', 0, bytes)
  }
  writeAll(fd, line, read)
  while (!text.endsWith('\n')) read()
  expect(text.slice(text.indexOf('long'))).toBe(line)
})

test.skipIf(process.platform === 'win32')('a reader that takes nothing is given up after a second', () => {
  const fd = openFullPipe()
  let waitedMs = 0
  expect(() => {
    writeAll(fd, 'line\n', (ms) => {
      waitedMs += ms
    })
  }).toThrow('EAGAIN')
  expect(waitedMs).toBe(1000)
})
