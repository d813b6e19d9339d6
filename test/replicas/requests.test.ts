import { expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { eventually } from '../world.ts'
import { ownerOf, pairOf, type Replica, startReplicas } from './world.ts'

/** A stop does not end it. */
const DEAF = 'trap "" TERM; while :; do sleep 0.05; done'

interface Row {
  readonly kind: string
  readonly outcome: string
  readonly group?: string
}

async function requestsAt(replica: Replica, id: string, count: number): Promise<readonly Row[]> {
  return eventually(`${count} requests of ${id} are known at ${replica.name}`, async () => {
    const { json } = await replica.ask(`/jobs/${id}/requests`)
    const rows: readonly Row[] = JSON.parse(JSON.stringify(json['requests'] ?? []))
    return rows.length === count && rows
  })
}

test('who asked what of a job is known at every replica, through whichever it was asked', {
  timeout: 60_000,
}, async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const [first] = pairOf(replicas)
  const id = await first.start({ task: 'command', input: { command: DEAF }, group: 'group-12345' })
  await first.untilStatus(id, 'running')
  const { owner, other } = await ownerOf(replicas, id)
  await other.ask(`/jobs/${id}`, { method: 'PATCH', body: { onDisconnect: 'stop' } })
  await other.ask(`/jobs/${id}`, { method: 'DELETE' })
  await owner.ask('/groups/group-12345/stop', { body: { reason: 'all' } })
  await other.ask('/groups/group-12345/cancel', { body: { reason: 'now' } })
  await other.untilStatus(id, 'cancelled')
  await other.ask(`/jobs/${id}/cancel`, { body: {} })
  await other.ask(`/jobs/${id}`, { method: 'DELETE' })
  await owner.ask(`/jobs/${id}`, { method: 'DELETE' })
  const expected = [
    { kind: 'patch', outcome: 'changed' },
    { kind: 'delete', outcome: 'TETHER_JOB_ACTIVE' },
    { kind: 'stop', outcome: 'accepted', group: 'group-12345', reason: 'all' },
    { kind: 'cancel', outcome: 'accepted', group: 'group-12345', reason: 'now' },
    { kind: 'cancel', outcome: 'ended' },
    { kind: 'delete', outcome: 'deleted' },
    { kind: 'delete', outcome: 'TETHER_JOB_NOT_FOUND' },
  ]
  for (const replica of replicas) {
    const rows = await requestsAt(replica, id, expected.length)
    // What is asked through two replicas is numbered as it is written, which may be the other way round.
    expect(rows.map(({ kind, outcome }) => `${kind} ${outcome}`).toSorted()).toEqual(
      expected.map(({ kind, outcome }) => `${kind} ${outcome}`).toSorted(),
    )
    expect(rows.filter(({ group }) => group === 'group-12345')).toHaveLength(2)
  }
})
