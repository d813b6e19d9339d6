import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { JobView } from '../../src/job/view.ts'
import { startServer } from '../cluster/world.ts'
import { eventually, temporaryFolder } from '../world.ts'
import { isAlive, ownerOf, pairOf, pidOf, type Replica, startReplicas } from './world.ts'

/** A task that does what its child does, which is to sleep. */
const PARENT = `
export const parent = {
  name: 'parent',
  input: {},
  run: (ctx) => ctx.run('command', { command: 'echo pid $$; exec sleep 600' }),
}
`

async function parentTasks(): Promise<Record<string, string>> {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'parent.ts'), PARENT)
  return { TASKS_DIR: folder }
}

async function childOf(replica: Replica, id: string): Promise<JobView> {
  return eventually('the child is there', async () => {
    const { text } = await replica.ask(`/jobs?parent=${id}`)
    const { jobs }: { jobs: readonly JobView[] } = JSON.parse(text)
    return jobs[0]
  })
}

test('a child runs where its parent does, is read everywhere, and ends with it, wherever that was asked', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2, await parentTasks())
  const [a] = pairOf(replicas)
  await Promise.all(
    ['owner', 'other'].map(async (place) => {
      const id = await a.start({ task: 'parent', input: {} })
      const { owner, other } = await ownerOf(replicas, id)
      const child = await childOf(other, id)
      const readers = await Promise.all([owner, other].map((replica) => replica.read(child.id)))
      const pids = await Promise.all(readers.map(pidOf))
      expect((await other.job(child.id)).replica).toBe((await other.job(id)).replica)
      await (place === 'owner' ? owner : other).ask(`/jobs/${id}/cancel`, { method: 'POST' })
      for (const reader of readers) {
        expect(await reader.untilEnded()).toMatchObject({ cancellation: { cause: 'parent_cancelled' } })
        expect(reader.terminal).toHaveLength(1)
      }
      await other.untilStatus(id, 'cancelled')
      expect(pids.filter(isAlive)).toEqual([])
    }),
  )
})

test('a child is ended by itself through any replica, and its parent goes on from there', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2, await parentTasks())
  const [a] = pairOf(replicas)
  const id = await a.start({ task: 'parent', input: {} })
  const { other } = await ownerOf(replicas, id)
  const child = await childOf(other, id)
  const reader = await other.read(child.id)
  const pid = await pidOf(reader)
  const answer = await other.ask(`/jobs/${child.id}/cancel?wait=10`, { method: 'POST' })
  expect(answer.json).toMatchObject({ status: 'cancelled', cancellation: { cause: 'cancel_requested' } })
  expect(isAlive(pid)).toBe(false)
  // A child that was cancelled rejects what its parent awaits.
  await other.untilStatus(id, 'failed')
})

test('a child is lost with the replica of its parent', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2, await parentTasks())
  const [a] = pairOf(replicas)
  const id = await a.start({ task: 'parent', input: {} })
  const { owner, other } = await ownerOf(replicas, id)
  const child = await childOf(other, id)
  const readers = await Promise.all([other.read(id), other.read(child.id)])
  await pidOf(readers[1])
  await owner.kill()
  for (const reader of readers) {
    expect(await reader.untilEnded()).toMatchObject({ failure: { code: 'TETHER_REPLICA_LOST' } })
    expect(reader.terminal).toHaveLength(1)
  }
})
