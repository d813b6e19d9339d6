import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { eventually, typesOf } from '../world.ts'
import type { Reading } from './Reading.ts'
import { isAlive, ownerOf, pairOf, pidOf, type Replica, sleeper, startReplicas } from './world.ts'

/** Where a request arrives, seen from the job. */
const PLACES = ['owner', 'other'] as const
type Place = (typeof PLACES)[number]

interface Way {
  readonly name: string
  /** What the job is started with, besides what it is. */
  readonly start?: object
  readonly end: (at: Replica, id: string, group: string) => Promise<void>
  /** How its log ends. */
  readonly terminal: { readonly type: string; readonly cause: string }
}

const post = async (at: Replica, path: string): Promise<void> => {
  const answer = await at.ask(path, { method: 'POST' })
  expect([200, 202], `${path}: ${answer.text}`).toContain(answer.status)
}

const WAYS: readonly Way[] = [
  {
    name: 'cancel',
    end: (at, id) => post(at, `/jobs/${id}/cancel`),
    terminal: { type: 'job.cancelled', cause: 'cancel_requested' },
  },
  {
    name: 'stop',
    end: (at, id) => post(at, `/jobs/${id}/stop`),
    terminal: { type: 'job.stopped', cause: 'stop_requested' },
  },
  {
    name: 'cancel of its group',
    end: (at, _, group) => post(at, `/groups/${group}/cancel`),
    terminal: { type: 'job.cancelled', cause: 'cancel_requested' },
  },
  {
    name: 'stop of its group',
    end: (at, _, group) => post(at, `/groups/${group}/stop`),
    terminal: { type: 'job.stopped', cause: 'stop_requested' },
  },
  {
    name: 'its only holder leaves',
    start: { onDisconnect: 'cancel' },
    end: async (at, id) => {
      const holder = await at.read(id, { hold: true })
      expect(holder.headers.get('x-tether-holder')).not.toBeNull()
      await eventually('it reads', () => holder.lastId > 0)
      holder.leave()
    },
    terminal: { type: 'job.cancelled', cause: 'client_disconnected' },
  },
  {
    name: 'the lease of its only holder is missed',
    start: { onDisconnect: 'cancel', leaseMs: 300 },
    end: async (at, id) => void (await at.read(id, { hold: true })),
    terminal: { type: 'job.cancelled', cause: 'lease_missed' },
  },
]

const newGroup = (): string => `group-${randomUUID()}`

/** Both readers have the same log, with one terminal event, as `way` has it. */
async function expectEnded(readers: readonly Reading[], way: Way, what: string): Promise<void> {
  await Promise.all(readers.map((reader) => reader.untilEnded(20_000)))
  const [events = [], ...others] = readers.map((reader) => reader.events)
  for (const more of others) expect(more, what).toEqual(events)
  expect(
    events.map(({ seq }) => seq),
    what,
  ).toEqual(events.map((_, index) => index + 1))
  expect(readers[0]?.terminal, what).toHaveLength(1)
  const terminal = events.at(-1)
  expect(terminal?.type, what).toBe(way.terminal.type)
  const { cancellation, stop, receipt } = Object(terminal)
  expect((cancellation ?? stop).cause, what).toBe(way.terminal.cause)
  expect(receipt.confirmed, what).toBe(true)
}

describe('a job that runs is ended in every way through every replica', () => {
  test.each(WAYS)('$name', async (way) => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const endAt = async (place: Place): Promise<void> => {
      const group = newGroup()
      const id = await startAt(replicas, { ...sleeper({ group }), ...way.start })
      const { owner, other } = await ownerOf(replicas, id)
      const readers = await Promise.all([owner, other].map((replica) => replica.read(id)))
      const pids = await Promise.all(readers.map(pidOf))
      await way.end(place === 'owner' ? owner : other, id, group)
      await expectEnded(readers, way, `${way.name} at the ${place}`)
      expect(pids.filter(isAlive), `${way.name} at the ${place}`).toEqual([])
    }
    await Promise.all(PLACES.map(endAt))
  })

  test('its timeout ends it, for readers everywhere', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const id = await startAt(replicas, sleeper({ timeoutMs: 700 }))
    const readers = await Promise.all(replicas.map((replica) => replica.read(id)))
    const pids = await Promise.all(readers.map(pidOf))
    const way: Way = {
      name: 'timeout',
      end: () => Promise.resolve(),
      terminal: { type: 'job.timed_out', cause: 'timed_out' },
    }
    await expectEnded(readers, way, 'timeout')
    expect(pids.filter(isAlive)).toEqual([])
  })
})

describe('a job that waits behind full replicas is ended in every way through every replica, and never runs', () => {
  test.each(WAYS)('$name', async (way) => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2, { CONCURRENCY: '1' })
    const blockers = await fill(replicas)
    const endAt = async (at: Replica): Promise<void> => {
      const group = newGroup()
      const id = await startAt(replicas, { ...sleeper({ group }), ...way.start })
      const readers = await Promise.all(replicas.map((replica) => replica.read(id)))
      await way.end(at, id, group)
      await expectEnded(readers, way, `${way.name} at ${at.name}`)
      expect(typesOf(readers[0]?.events ?? [])).toEqual(['job.queued', way.terminal.type])
    }
    await Promise.all(replicas.map(endAt))
    // The slots are free again: what has ended is passed over.
    for (const id of blockers) await replicas[0]?.ask(`/jobs/${id}/cancel`, { method: 'POST' })
    const next = await startAt(replicas, { task: 'ticks', input: { count: 1, intervalMs: 0 } })
    await replicas[1]?.untilStatus(next, 'succeeded')
  })

  test('the time that it may wait is over', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2, { CONCURRENCY: '1' })
    await fill(replicas)
    const id = await startAt(replicas, sleeper({ queueTimeoutMs: 300 }))
    const readers = await Promise.all(replicas.map((replica) => replica.read(id)))
    await Promise.all(readers.map((reader) => reader.untilEnded()))
    for (const { events } of readers) {
      expect(typesOf(events)).toEqual(['job.queued', 'job.timed_out'])
      expect(events[1]).toMatchObject({ cancellation: { cause: 'timed_out', phase: 'queued' } })
    }
  })
})

describe('a job that is not there yet', () => {
  test('is ended when it comes, wherever the request arrived and wherever it starts', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const cases = replicas.flatMap((asked) =>
      replicas.flatMap((started) => (['cancel', 'stop'] as const).map((kind) => ({ asked, started, kind }))),
    )
    await Promise.all(
      cases.map(async ({ asked, started, kind }) => {
        const jobId = `job-${randomUUID()}`
        const answer = await asked.ask(`/jobs/${jobId}/${kind}`, { body: { ifUnknown: 'remember' } })
        expect(answer.status).toBe(202)
        expect(answer.headers.get('x-tether-delivery')).toBe('remembered')
        const reading = await started.hold(sleeper({ jobId }))
        await reading.untilEnded()
        const terminal = kind === 'cancel' ? 'job.cancelled' : 'job.stopped'
        expect(typesOf(reading.events)).toEqual(['job.queued', terminal])
        const elsewhere = await asked.read(jobId)
        await elsewhere.untilEnded()
        expect(elsewhere.events).toEqual(reading.events)
      }),
    )
  })

  test('is ended when it comes with a group that was cancelled', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const [a, b] = pairOf(replicas)
    const group = newGroup()
    const answer = await a.ask(`/groups/${group}/cancel`, { body: { ifUnknown: 'remember' } })
    expect(answer.status).toBe(202)
    const readings = await Promise.all([a, b, b].map((replica) => replica.hold(sleeper({ group }))))
    for (const reading of readings) {
      await reading.untilEnded()
      expect(typesOf(reading.events)).toEqual(['job.queued', 'job.cancelled'])
    }
  })

  test('is not found by a request that is not to be remembered', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    for (const replica of replicas) {
      const answer = await replica.ask('/jobs/job-that-is-none/cancel', { method: 'POST' })
      expect(answer.json).toMatchObject({ statusCode: 404, code: 'TETHER_JOB_NOT_FOUND' })
      const ofGroup = await replica.ask('/groups/group-that-is-none/cancel', { method: 'POST' })
      expect(ofGroup.json).toMatchObject({ statusCode: 404, code: 'TETHER_JOB_NOT_FOUND' })
    }
  })
})

describe('a job that is stopped through one replica', () => {
  test('and does not heed it is cancelled through the other', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const id = await startAt(replicas, { task: 'command', input: { command: "trap '' TERM; echo pid $$; sleep 600" } })
    const { owner, other } = await ownerOf(replicas, id)
    const readers = await Promise.all([owner, other].map((replica) => replica.read(id)))
    const pids = await Promise.all(readers.map(pidOf))
    expect((await other.ask(`/jobs/${id}/stop`, { method: 'POST' })).status).toBe(202)
    await other.untilStatus(id, 'stopping')
    expect((await owner.ask(`/jobs/${id}/stop`, { method: 'POST' })).status).toBe(202)
    expect((await other.ask(`/jobs/${id}/cancel`, { method: 'POST' })).status).toBeLessThan(203)
    for (const reader of readers) {
      expect(await reader.untilEnded()).toMatchObject({
        type: 'job.cancelled',
        cancellation: { cause: 'cancel_requested', stop: { cause: 'stop_requested' } },
      })
      expect(typesOf(reader.events).slice(-3)).toEqual(['job.stopping', 'job.cancelling', 'job.cancelled'])
    }
    expect(pids.filter(isAlive)).toEqual([])
  })

  test('and both at once, many times, at every replica, has one end', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const id = await startAt(replicas, sleeper())
    const readers = await Promise.all(replicas.map((replica) => replica.read(id)))
    await Promise.all(readers.map(pidOf))
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => index).flatMap((index) =>
        replicas.map((replica) =>
          replica.ask(`/jobs/${id}/${index % 2 === 0 ? 'stop' : 'cancel'}?wait=20`, { method: 'POST' }),
        ),
      ),
    )
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    for (const reader of readers) {
      expect(await reader.untilEnded()).toMatchObject({ type: 'job.cancelled' })
      expect(reader.terminal).toHaveLength(1)
    }
  })
})

describe('a cancel that meets the end of a job', () => {
  test('wins or is answered with 409, never both and never neither, from any replica', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        const at = replicas[index % 2]
        const reader = replicas[(index >> 1) % 2]
        if (at === undefined || reader === undefined) throw new Error('there are two')
        const id = await at.start({ task: 'ticks', input: { count: 2, intervalMs: 5 } })
        const reading = await reader.read(id)
        await eventually('it is about to end', () => reading.lastId >= 1 + (index % 4))
        const { status } = await at.ask(`/jobs/${id}/cancel?wait=10`, { method: 'POST' })
        const { type } = await reading.untilEnded()
        expect(reading.terminal).toHaveLength(1)
        expect([status, type]).toEqual(type === 'job.cancelled' ? [200, type] : [409, 'job.succeeded'])
      }),
    )
  })

  test('a job that has ended is answered alike by all', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const id = await startAt(replicas, { task: 'ticks', input: { count: 1, intervalMs: 0 } })
    for (const replica of replicas) {
      await replica.untilStatus(id, 'succeeded')
      const answer = await replica.ask(`/jobs/${id}/cancel`, { method: 'POST' })
      expect(answer.json).toMatchObject({ statusCode: 409, code: 'TETHER_JOB_FINISHED' })
    }
  })
})

describe('the stream that started a job', () => {
  test('ends it with its connection, wherever it runs', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    await Promise.all(
      // Enough that some run where their stream is, and some elsewhere.
      [...replicas, ...replicas, ...replicas].map(async (replica) => {
        const stream = await replica.hold(sleeper())
        const pid = await pidOf(stream)
        const readers = await Promise.all(replicas.map((other) => other.read(stream.jobId)))
        stream.leave()
        for (const reader of readers) {
          expect(await reader.untilEnded()).toMatchObject({
            type: 'job.cancelled',
            cancellation: { cause: 'client_disconnected' },
          })
          expect(reader.terminal).toHaveLength(1)
        }
        expect(isAlive(pid)).toBe(false)
      }),
    )
  })

  test('and a request that waits for its outcome, end it too when they are gone', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    await Promise.all(
      [...replicas, ...replicas, ...replicas].map(async (replica) => {
        const jobId = `job-${randomUUID()}`
        const leaving = new AbortController()
        const waiting = fetch(`${replica.url}/execute`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(sleeper({ jobId })),
          signal: leaving.signal,
        })
        await ownerOf(replicas, jobId)
        const reader = await replica.read(jobId)
        const pid = await pidOf(reader)
        leaving.abort()
        await waiting.then((answer) => answer.text()).catch(() => undefined)
        expect(await reader.untilEnded()).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
        expect(isAlive(pid)).toBe(false)
      }),
    )
  })

  test('leaves it alone once it is detached, through any replica', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const cases = replicas.flatMap((held) => replicas.map((patched) => ({ held, patched })))
    await Promise.all(
      [...cases, ...cases].map(async ({ held, patched }) => {
        const stream = await held.hold(sleeper())
        const pid = await pidOf(stream)
        const answer = await patched.ask(`/jobs/${stream.jobId}`, {
          method: 'PATCH',
          body: { onDisconnect: 'continue' },
        })
        expect(answer.status).toBe(200)
        const holder = stream.headers.get('x-tether-holder') ?? ''
        stream.leave()
        await stream.over
        // The stream has left once its lease cannot be renewed any more.
        await eventually('the holder is gone', async () => {
          const renewed = await held.ask(`/jobs/${stream.jobId}/lease`, { body: { holder } })
          return renewed.status === 400
        })
        const reader = await patched.read(stream.jobId)
        await eventually('it reads', () => reader.lastId > 1)
        expect(isAlive(pid)).toBe(true)
        expect((await held.job(stream.jobId)).status).toBe('running')
        await patched.ask(`/jobs/${stream.jobId}/cancel`, { method: 'POST' })
        expect(await reader.untilEnded()).toMatchObject({ cancellation: { cause: 'cancel_requested' } })
      }),
    )
  })
})

test('a group that is cancelled while its jobs are being claimed is cancelled whole, whoever claims them', async () => {
  const redis = await startServer()
  const [a, b] = pairOf(await startReplicas(redis.url, 2, { CONCURRENCY: '200' }))
  for (let round = 0; round < 8; round += 1) {
    const group = newGroup()
    const body = { task: 'ticks', input: { count: 100_000, intervalMs: 100 }, group }
    const ids = await Promise.all(Array.from({ length: 30 }, () => a.start(body)))
    await post(b, `/groups/${group}/cancel`)
    for (const id of ids) await a.untilStatus(id, 'cancelled')
  }
})

function startAt(replicas: readonly Replica[], body: object): Promise<string> {
  return pairOf(replicas)[0].start(body)
}

/** Gives every slot of replicas with one slot each a job that keeps it. */
async function fill(replicas: readonly Replica[]): Promise<readonly string[]> {
  const ids = await Promise.all(replicas.map((replica) => replica.start(sleeper())))
  await Promise.all(ids.map((id) => ownerOf(replicas, id)))
  return ids
}
