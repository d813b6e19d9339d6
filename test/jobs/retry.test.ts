import { join } from 'node:path'
import { expect, test } from 'vitest'
import { TaskRegistry } from '../../src/execution/TaskRegistry.ts'
import { secret, Type } from '../../src/execution/task.ts'
import { eventually, parseFrames, taskOf, temporaryFolder } from '../world.ts'
import { spawnServer, startJob, statusOf } from './serverProcess.ts'

const TASKS_DIR = join(import.meta.dirname, 'fixtures', 'retried')

/** Starts a job that ends its server `deaths` times, and servers until one lives. Gives the events of the job. */
async function runThrough(deaths: number) {
  const settings = { DATA_DIR: await temporaryFolder(), TASKS_DIR }
  const first = spawnServer(settings)
  const id = await startJob(await first.url(), { task: 'deadly', input: { deaths } })
  await first.exited
  for (;;) {
    const next = spawnServer(settings)
    const url = await next.url()
    const isOver = eventually('the job has ended', async () => /succeeded|interrupted/.test(await statusOf(url, id)))
    const died = next.exited.then(() => false)
    if (!(await Promise.race([isOver.catch(() => false), died]))) continue
    return parseFrames(await (await fetch(`${url}/jobs/${id}/events`)).text())
  }
}

test('a job of a task with retryOnInterrupt runs again from the start where its server died', async () => {
  const events = await runThrough(1)
  expect(events.map(({ type }) => type)).toEqual([
    'job.queued',
    'job.started',
    'output',
    'job.requeued',
    'job.started',
    'output',
    'job.succeeded',
  ])
  expect(events.at(3)).toMatchObject({ attempt: 1, failure: { code: 'TETHER_SERVER_CRASHED' } })
  expect(events.at(-1)).toMatchObject({ result: 2 })
}, 60_000)

test('a job that ends its server each time is run three times', async () => {
  const events = await runThrough(9)
  expect(events.filter(({ type }) => type === 'job.started')).toHaveLength(3)
  expect(events.at(-1)).toMatchObject({ type: 'job.interrupted', failure: { code: 'TETHER_SERVER_CRASHED' } })
}, 90_000)

test('a task with secrets cannot be retried: they are gone', () => {
  const input = Type.Object({ key: Type.String(secret()) })
  const register = (): void =>
    new TaskRegistry().register({ ...taskOf('keyed', async () => null), input, retryOnInterrupt: true })
  expect(register).toThrow(
    'task keyed has secrets, which are erased once it is claimed: it cannot have retryOnInterrupt',
  )
  const harmless = Type.Object({ secret: Type.String() })
  new TaskRegistry().register({ ...taskOf('plain', async () => null), input: harmless, retryOnInterrupt: true })
})
