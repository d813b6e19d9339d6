import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { JobId } from '../../src/job/id.ts'
import type { JobRecord } from '../../src/job/record.ts'
import { isTerminal, type JobStatus, STATUSES } from '../../src/job/status.ts'
import { unreachable } from '../../src/job/unreachable.ts'
import { linesOf } from '../store/contract.ts'
import { recordNamed } from '../store/records.ts'
import { RandomReplica, Told } from './RandomReplica.ts'
import { openReplicas } from './replicas.ts'
import { startServer } from './world.ts'

const JOBS = Array.from({ length: 200 }, (_, n) => recordNamed(`j${n}`))
const OPERATIONS = 6000
/** So many jobs are worked on at a time. */
const WINDOW = 6
const TERMINAL_EVENTS = new Set<unknown>(STATUSES.filter(isTerminal).map((status) => `job.${status}`))

const operation = fc.record({
  replica: fc.nat(3),
  offset: fc.nat(WINDOW - 1),
  what: fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom('create', 'claim', 'emit', 'seal', 'finish', 'fail', 'follow') },
    { weight: 1, arbitrary: fc.constantFrom('cancel', 'stop', 'hold', 'leave', 'requeue', 'takeDead', 'beat') },
  ),
})

type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never

function run(replica: RandomReplica, what: Operation['what'], job: JobRecord): Promise<void> {
  switch (what) {
    case 'create':
    case 'claim':
    case 'emit':
    case 'follow':
    case 'seal':
    case 'hold':
    case 'leave':
    case 'requeue':
      return replica[what](job)
    case 'takeDead':
    case 'beat':
      return replica[what]()
    case 'finish':
      return replica.finish(job, 'succeeded')
    case 'fail':
      return replica.finish(job, 'failed')
    case 'cancel':
    case 'stop':
      return replica.ask(job, what)
    default:
      return unreachable(what)
  }
}

/** Brings every job to its end, as far as it was created. */
async function settle(replicas: readonly RandomReplica[]): Promise<void> {
  const [first] = replicas
  for (const replica of replicas) await replica.beat()
  await first?.takeDead()
  for (const replica of replicas) {
    for (const job of JOBS) {
      await replica.create(job)
      await replica.claim(job)
      for (let round = 0; round < 3; round += 1) await replica.finish(job, 'succeeded')
    }
  }
}

/** What a job may have ended as, by what was said of it. */
function endsOf(id: JobId, told: Told): readonly JobStatus[] {
  const ends: JobStatus[] = told.orphaned.has(id) ? ['interrupted'] : []
  if (told.cancelled.has(id)) return [...ends, 'cancelled']
  return [...ends, 'succeeded', 'failed', 'stopped', ...(told.sealed.has(id) ? [] : ['cancelled' as const])]
}

test.each([1, 2, 3, 4, 5])(
  'replicas that do anything at any time end each job once, as they were told (%i)',
  async (seed) => {
    const server = await startServer()
    const told = new Told()
    // The last one lapses again and again, and goes on writing all the same.
    const opened = await openReplicas({ url: server.url }, 'one', 'two', 'three', 'zombie')
    const replicas = opened.map((jobs) => new RandomReplica(jobs, told))
    const operations = fc.sample(operation, { numRuns: OPERATIONS, seed })
    const work = replicas.map(async (replica, index) => {
      const mine = operations.filter((each) => each.replica === index)
      for (const [n, { what, offset }] of mine.entries()) {
        const job = JOBS[Math.floor((n / mine.length) * (JOBS.length - WINDOW)) + offset]
        if (job !== undefined) await run(replica, what, job)
        if (index === 3 && n % 20 === 19) await replica.lapse()
      }
    })
    await Promise.all(work)
    await settle(replicas)

    const [{ store }] = opened
    for (const job of JOBS) {
      const found = await store.lookup(job)
      if (found.kind !== 'found') throw new Error(`${job.id} must be there`)
      const { status } = found.record.state
      expect(endsOf(job.id, told)).toContain(status)
      expect(told.ended.get(job.id) ?? status).toBe(status)
      const types = (await linesOf(store, job)).map((line): unknown => JSON.parse(line).type)
      expect(types.filter((type) => TERMINAL_EVENTS.has(type))).toEqual([`job.${status}`])
      expect(types.at(-1)).toBe(`job.${status}`)
      expect(told.ends.get(job.id)).toBe(1)
    }
    // Nothing of what is kept of jobs that have not ended is left.
    const keys = (await server.run('KEYS', '*')) as readonly string[]
    const kept = new Set(['ended', 'index', 'job', 'log', 'replicas', 'session'])
    expect(keys.filter((key) => !kept.has(key.split(':')[1] ?? ''))).toEqual([])
  },
)
