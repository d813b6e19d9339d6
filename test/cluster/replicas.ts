import { onTestFinished } from 'vitest'
import { openRedisJobs, type RedisJobs } from '../../src/cluster/RedisJobStore.ts'
import type { CancelKind, StoredRequest } from '../../src/job/cancellation.ts'
import type { JobRecord } from '../../src/job/record.ts'
import { type ChangeOf, create } from '../store/records.ts'

export const LEASE_MS = 60_000

/** Replicas that live, called after their names; they are closed with the test. */
export async function openReplicas<const N extends readonly string[]>(
  options: { readonly url: string; readonly prefix?: string },
  ...names: N
): Promise<{ readonly [K in keyof N]: RedisJobs }> {
  const opened = await Promise.all(
    names.map(async (replica) => {
      const jobs = await openRedisJobs({ ...options, maxLogBytes: 2 ** 28, replica })
      onTestFinished(() => jobs.store.close())
      await jobs.shared.beat(LEASE_MS)
      return jobs
    }),
  )
  return opened as unknown as { readonly [K in keyof N]: RedisJobs }
}

export function requestFor(kind: CancelKind, reason = ''): StoredRequest {
  const cause = kind === 'cancel' ? 'cancel_requested' : 'stop_requested'
  return { kind, cause, reason, requestedAt: 1_700_000_000_000 }
}

/** A job that any replica may take from the queue. */
export function createWaiting(record: JobRecord, waitsUntil?: number): ChangeOf<'create'> {
  return { ...create(record), owner: '', ...(waitsUntil === undefined ? {} : { waitsUntil }) }
}
