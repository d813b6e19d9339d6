import { expect, test } from 'vitest'
import type { Replicas } from '../../src/jobs/Replicas.ts'
import { StoreError } from '../../src/store/JobStore.ts'
import { createWaiting, openReplicas } from '../cluster/replicas.ts'
import { startServer } from '../cluster/world.ts'
import { ask } from '../server/requests.ts'
import { POLICY, recordNamed } from '../store/records.ts'
import { openReplicaHere } from './replicaHere.ts'
import { isAlive, pidOf, Replica } from './world.ts'

/** The address of a replica whose way into the queue is `enqueue`. */
async function openStarter(redisUrl: string, enqueue: Replicas['enqueue']): Promise<string> {
  const { url } = await openReplicaHere(redisUrl, {
    prepare: ({ replicas }) => {
      replicas.enqueue = enqueue
    },
  })
  return url
}

test('a start that is recorded is taken, though the queue is away, and another replica puts it there', async () => {
  const redis = await startServer()
  const a = await Replica.start(redis.url, 'a')
  const url = await openStarter(redis.url, () => Promise.reject(new StoreError('the queue is away')))
  const answer = await ask(url, '/jobs', { body: { task: 'ticks', input: { count: 1, intervalMs: 0 } } })
  expect(answer.status).toBe(202)
  await a.untilStatus(String(answer.json['id']), 'succeeded', 20_000)
})

test('a job whose replica died with its holder, before it was in the queue, is not run for nobody', async () => {
  const redis = await startServer()
  const b = await Replica.start(redis.url, 'b')
  const [dead] = await openReplicas({ url: redis.url }, 'dead')
  const command = 'echo pid $$; exec sleep 600'
  const job = recordNamed('held', { input: { command }, policy: { ...POLICY, onDisconnect: 'cancel', settleMs: 2000 } })
  await dead.store.commit([{ ...createWaiting(job), isHeld: true }])
  await dead.shared.retire()
  const reader = await b.read(job.id)
  const pid = await pidOf(reader)
  expect(await reader.untilEnded(25_000)).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
  expect(isAlive(pid)).toBe(false)
}, 60_000)
