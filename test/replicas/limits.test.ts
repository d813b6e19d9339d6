import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { temporaryFolder } from '../world.ts'
import { ownerOf, pairOf, sleeper, startReplicas } from './world.ts'

const ONE = { concurrencyKey: 'one', concurrencyLimit: 1 }

/** Says in a file when it begins and ends. */
function noting(file: string, more: object = ONE): object {
  const command = `echo begun >> ${file}; sleep 0.05; echo ended >> ${file}`
  return { task: 'command', input: { command }, ...more }
}

test('jobs of one key run one after the other over all replicas, and others meanwhile', async () => {
  const redis = await startServer()
  const [a, b] = pairOf(await startReplicas(redis.url, 2, { CONCURRENCY: '2' }))
  const file = join(await temporaryFolder(), 'log')
  const first = await a.start(sleeper(ONE))
  await a.untilStatus(first, 'running')
  const ids = await Promise.all(Array.from({ length: 10 }, (_, n) => (n % 2 === 0 ? a : b).start(noting(file))))
  // They take no slots: more of others run than slots would be left.
  const others = await Promise.all([a, b, a].map((replica) => replica.start(sleeper())))
  for (const id of others) await a.untilStatus(id, 'running')
  for (const id of ids) expect((await b.job(id)).status).toBe('queued')
  expect((await b.ask('/health/ready')).json).toMatchObject({ queued: 10 })
  await b.ask(`/jobs/${first}/cancel`, { method: 'POST' })
  for (const id of ids) await a.untilStatus(id, 'succeeded', 20_000)
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n')
  expect(lines).toEqual(ids.flatMap(() => ['begun', 'ended']))
})

test('a job that is held back can be cancelled, waits no longer than it may, and runs when the replica of the other has died', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const [a] = pairOf(replicas)
  const first = await a.start(sleeper(ONE))
  const { owner, other } = await ownerOf(replicas, first)
  const [cancelled, late, next] = [
    await owner.start(sleeper(ONE)),
    await other.start(sleeper({ ...ONE, queueTimeoutMs: 300 })),
    await owner.start(sleeper(ONE)),
  ]
  const answer = await other.ask(`/jobs/${cancelled}/cancel`, { method: 'POST' })
  expect(answer).toMatchObject({ status: 200, json: { status: 'cancelled', cancellation: { phase: 'queued' } } })
  await other.untilStatus(late, 'timed_out')
  expect((await other.job(next)).status).toBe('queued')
  await owner.kill()
  await other.untilStatus(next, 'running', 20_000)
  expect((await other.job(first)).status).toBe('interrupted')
})

test('no more of a task run at once over all replicas than its definition says', async () => {
  const redis = await startServer()
  const folder = await temporaryFolder()
  const tasks = join(folder, 'tasks')
  await mkdir(tasks)
  await writeFile(
    join(tasks, 'pair.ts'),
    `import { appendFile } from 'node:fs/promises'
    import { defineTask, Type } from '${process.cwd()}/src/index.ts'
    export default defineTask({
      name: 'pair',
      concurrencyLimit: 2,
      input: Type.Object({ file: Type.String() }),
      async run(ctx, { file }) {
        await appendFile(file, 'begun\\n')
        await ctx.sleep(20)
        await appendFile(file, 'ended\\n')
      },
    })`,
  )
  const [a, b] = pairOf(await startReplicas(redis.url, 2, { TASKS_DIR: tasks }))
  const file = join(folder, 'log')
  const ids = await Promise.all(
    Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? a : b).start({ task: 'pair', input: { file } })),
  )
  for (const id of ids) await a.untilStatus(id, 'succeeded', 20_000)
  let [running, most] = [0, 0]
  for (const line of (await readFile(file, 'utf8')).trimEnd().split('\n')) {
    running += line === 'begun' ? 1 : -1
    most = Math.max(most, running)
  }
  expect([running, most]).toEqual([0, 2])
})
