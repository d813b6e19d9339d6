import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { DirectoryHeldError, lockDirectory } from '../../src/store/DirectoryLock.ts'
import { temporaryFolder } from './folder.ts'

function heldErrorOf(dataDir: string): DirectoryHeldError {
  try {
    lockDirectory(dataDir, { pid: 1 }).release()
  } catch (error) {
    if (error instanceof DirectoryHeldError) return error
    throw error
  }
  throw new Error(`${dataDir} must be held, and is free`)
}

test('a second locker is told who holds the folder, since when and where', async () => {
  const dataDir = await temporaryFolder()
  using lock = lockDirectory(dataDir, { pid: 4711 })
  lock.announce('http://127.0.0.1:3000')
  const error = heldErrorOf(dataDir)
  expect(error.holder).toMatchObject({ pid: 4711, address: 'http://127.0.0.1:3000' })
  expect(error.message).toMatch(/held by process 4711 \(started at 20\d\d-.*Z, http:\/\/127\.0\.0\.1:3000\)/)
})

test('a folder that is released can be taken again, and releasing twice is harmless', async () => {
  const dataDir = await temporaryFolder()
  for (let round = 0; round < 5; round++) {
    const lock = lockDirectory(dataDir, { pid: process.pid })
    heldErrorOf(dataDir)
    lock.release()
    lock.release()
  }
})

test('a folder that is not there is made for its owner alone', async () => {
  const dataDir = join(await temporaryFolder(), 'deep', 'data')
  using _lock = lockDirectory(dataDir, { pid: process.pid })
  expect(statSync(dataDir).mode & 0o777).toBe(0o700)
})

test('a note that is malformed or missing stops nobody from being refused', async () => {
  const dataDir = await temporaryFolder()
  using _lock = lockDirectory(dataDir, { pid: process.pid })
  for (const note of ['', '{', '[]', 'null', '{"pid":"1"}']) {
    writeFileSync(join(dataDir, 'lock.json'), note)
    expect(heldErrorOf(dataDir)).toMatchObject({
      holder: undefined,
      message: expect.stringContaining('another process'),
    })
  }
})

test('a folder that cannot be one is refused with its name', async () => {
  const file = join(await temporaryFolder(), 'file')
  writeFileSync(file, '')
  expect(() => lockDirectory(file, { pid: 1 })).toThrow(file)
})

test('a holder that is killed leaves the folder free at once', async () => {
  const dataDir = await temporaryFolder()
  const child = spawn(process.execPath, [join(import.meta.dirname, 'holdDirectory.ts'), dataDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  expect(heldErrorOf(dataDir).holder).toMatchObject({ pid: child.pid, address: 'http://127.0.0.1:3000' })

  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
  using _lock = lockDirectory(dataDir, { pid: process.pid })
  expect(JSON.parse(readFileSync(join(dataDir, 'lock.json'), 'utf8'))).toMatchObject({ pid: process.pid })
})
