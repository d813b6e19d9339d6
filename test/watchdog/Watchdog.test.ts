import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { runAs } from '../../src/execution/watchdog/currentExecution.ts'
import { Watchdog } from '../../src/execution/watchdog/Watchdog.ts'

interface World {
  readonly watchdog: Watchdog
  /** What the thread wrote. */
  readonly written: () => string[]
  /** What the logger wrote. */
  readonly logged: string[]
}

function openWorld(level = 'warn'): World {
  const folder = mkdtempSync(join(tmpdir(), 'tether-watchdog-'))
  const path = join(folder, 'log')
  const reportFd = openSync(path, 'a')
  const logged: string[] = []
  const logger = pino({ level, base: null }, { write: (line: string) => void logged.push(line) }).child({
    replica: 'r1',
  })
  const watchdog = new Watchdog({ logger, reportFd, blockedMs: 200, lookMs: 50 })
  onTestFinished(async () => {
    await watchdog.stop()
    closeSync(reportFd)
    rmSync(folder, { recursive: true, force: true })
  })
  return {
    watchdog,
    logged,
    written: () =>
      readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => line !== ''),
  }
}

/** Blocks this thread until `isDone`, or for ten seconds. */
function blockUntil(isDone: () => boolean): void {
  const untilMs = performance.now() + 10_000
  while (!isDone() && performance.now() < untilMs);
}

test('a function that blocks from its first line on is told of, though the thread has only just been asked for', async () => {
  const { watchdog, written, logged } = openWorld()
  const end = watchdog.watch('job_12345678')
  runAs({ jobId: 'job_12345678', task: 'heavy' }, () =>
    blockUntil(() => written().some((line) => line.includes('"file"'))),
  )
  const lines = written().map((line): object => JSON.parse(line))
  expect(lines.at(-1)).toMatchObject({ jobId: 'job_12345678', task: 'heavy' })
  expect(lines.at(-1)).toHaveProperty('stack', expect.arrayContaining([expect.stringContaining('blockUntil')]))
  await expect.poll(() => logged.length).toBe(1)
  end()
})

test("what the thread writes has the form of the logger's own lines", async () => {
  const { watchdog, written, logged } = openWorld()
  watchdog.watch('job_12345678')
  blockUntil(() => written().some((line) => line.includes('"file"')))
  await expect.poll(() => logged.length).toBe(1)
  const [told = {}, over = {}] = [written().at(-1), logged[0]].map((line): object => JSON.parse(line ?? ''))
  expect(Object.keys(told)).toEqual(Object.keys(over))
  expect({ ...told, time: 0, ms: 0, msg: '' }).toEqual({ ...over, time: 0, ms: 0, msg: '' })
})

test('code of no job is told of without one', () => {
  const { watchdog, written } = openWorld()
  watchdog.watch('job_12345678')
  blockUntil(() => written().some((line) => line.includes('"file"')))
  const told: object = JSON.parse(written().at(-1) ?? '')
  expect(told).toMatchObject({ jobIds: ['job_12345678'], file: import.meta.filename })
  expect(told).not.toHaveProperty('jobId')
})

test('a logger that shows no warnings is not written past', () => {
  const { watchdog, written } = openWorld('error')
  watchdog.watch('job_12345678')
  const untilMs = performance.now() + 500
  blockUntil(() => performance.now() > untilMs)
  expect(written()).toEqual([])
  expect(threads()).not.toContain('tether-watchdog')
})

test('nothing is left after a stop, whenever it comes, and what is watched then is not', async () => {
  const { watchdog } = openWorld()
  await new Watchdog({ logger: pino({ level: 'silent' }), reportFd: 1 }).stop()
  const end = watchdog.watch('job_12345678')
  // One after the other and at once, before the thread has come up.
  await Promise.all([watchdog.stop(), watchdog.stop()])
  await watchdog.stop()
  watchdog.watch('job_87654321')()
  end()
  expect(threads()).not.toContain('tether-watchdog')
})

test('a stop as a block ends, while the thread is at its debugger, leaves nothing and breaks nothing', async () => {
  for (let round = 0; round < 12; round += 1) {
    const { watchdog } = openWorld()
    watchdog.watch('job_12345678')
    const untilMs = performance.now() + 180 + 20 * round
    blockUntil(() => performance.now() > untilMs)
    await watchdog.stop()
  }
  expect(threads()).not.toContain('tether-watchdog')
})

/** The names of this process's threads, where the machine tells. */
function threads(): string[] {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc/self/task').map((id) => readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim())
}
