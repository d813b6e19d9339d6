import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { JumpingClock } from '../JumpingClock.ts'
import { ask, jobOf, startJob } from '../server/requests.ts'
import { eventually, taskOf, temporaryFolder } from '../world.ts'
import { openReplicaHere } from './replicaHere.ts'

const writes = taskOf('writes', async (ctx) => {
  await writeFile(join(await ctx.workspace(), 'kept.txt'), 'text')
})

test('the files of a job that was deleted through another replica are removed', async () => {
  const redis = await startServer()
  const clock = new JumpingClock()
  const dataDir = await temporaryFolder()
  const owner = await openReplicaHere(redis.url, { dataDir, clock, tasks: [writes] })
  const { id } = await startJob(owner.url, { task: 'writes' })
  await eventually('it has ended', async () => (await jobOf(owner.url, id)).terminal)
  const { id: kept } = await startJob(owner.url, { task: 'writes' })
  await eventually('it has ended', async () => (await jobOf(owner.url, kept)).terminal)
  const other = await openReplicaHere(redis.url, { tasks: [writes] })
  expect((await ask(other.url, `/jobs/${id}`, { method: 'DELETE' })).status).toBe(204)
  const workspaces = join(dataDir, 'workspaces')
  expect((await readdir(workspaces)).toSorted()).toEqual([id, kept].toSorted())
  clock.jump(5 * 60_000)
  await eventually('its files are gone', async () => !(await readdir(workspaces)).includes(id))
  expect(await readdir(workspaces)).toEqual([kept])
})

test('the files of a job that was not deleted, and that Redis has lost, stay as long as those of a job are kept', async () => {
  const redis = await startServer()
  const clock = new JumpingClock()
  const dataDir = await temporaryFolder()
  const settings = { RETAIN_JOBS_HOURS: '1000' }
  const { url } = await openReplicaHere(redis.url, { dataDir, clock, settings, tasks: [writes] })
  const other = await openReplicaHere(redis.url, { prepare: (engine) => engine.stopClaiming() })
  const workspaces = join(dataDir, 'workspaces')
  const run = async (): Promise<string> => {
    const { id } = await startJob(url, { task: 'writes' })
    await eventually('it has ended', async () => (await jobOf(other.url, id)).terminal)
    return id
  }
  const untilGone = (id: string): Promise<unknown> =>
    eventually(`the files of ${id} are gone`, async () => {
      clock.jump(5 * 60_000)
      return !(await readdir(workspaces)).includes(id)
    })
  const lost = await run()
  expect(await redis.run('DEL', `tether:job:default:${lost}`)).toBe(1)
  // The second look comes after the whole of the first.
  for (let look = 0; look < 2; look += 1) {
    const deleted = await run()
    expect((await ask(other.url, `/jobs/${deleted}`, { method: 'DELETE' })).status).toBe(204)
    await untilGone(deleted)
  }
  expect(await readdir(workspaces)).toContain(lost)
  clock.jump(1000 * 3_600_000)
  await untilGone(lost)
})
