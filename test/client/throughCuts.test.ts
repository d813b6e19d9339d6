import fc from 'fast-check'
import { expect, onTestFinished, test } from 'vitest'
import type { StreamOptions } from '../../src/client/BaseClient.ts'
import type { JobSpec } from '../../src/client/JobSpec.ts'
import type { JobStream } from '../../src/client/JobStream.ts'
import type { Loss } from '../../src/client/Reconnect.ts'
import { TetherClient } from '../../src/client/TetherClient.ts'
import type { JobEvent } from '../../src/job/event.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import type { Tether } from '../../src/tether.ts'
import { spawnServer, startJob } from '../jobs/serverProcess.ts'
import { eventsOf, eventually, Gate, openWorld, taskOf, temporaryFolder, typesOf } from '../world.ts'
import { type CutProxy, openProxy } from './CutProxy.ts'

// The client against a real server, with a proxy between them that breaks their connections.

interface Cuttable {
  readonly world: Tether
  readonly proxy: CutProxy
  readonly client: TetherClient
  /** Opens when the task `waits` may return. */
  readonly gate: Gate
}

async function openCuttable(): Promise<Cuttable> {
  const gate = new Gate()
  const waits = taskOf('waits', async (ctx) => {
    await ctx.output('begun')
    await Promise.race([gate.opened, ctx.sleep(60_000)])
    return 'done'
  })
  const world = await openWorld({ tasks: [waits] })
  const proxy = await openProxy(world.url)
  return { world, proxy, gate, client: clientOf(proxy.url) }
}

function clientOf(server: string): TetherClient {
  const client = new TetherClient({ server })
  onTestFinished(() => client.close())
  return client
}

function refOf(jobId: string): { tenant: string; id: ReturnType<typeof parseJobId> } {
  return { tenant: DEFAULT_TENANT, id: parseJobId(jobId) }
}

async function collect(stream: JobStream, onEvent: (event: JobEvent) => unknown = () => {}): Promise<JobEvent[]> {
  const events: JobEvent[] = []
  for await (const event of stream) {
    events.push(event)
    await onEvent(event)
  }
  return events
}

/** Some cuts in the head of an answer, most in what follows it. */
const CUTS = fc.array(fc.oneof(fc.integer({ min: -1, max: 500 }), fc.integer({ min: 400, max: 9000 })), {
  minLength: 1,
  maxLength: 5,
})

/** A server takes its time to start on a busy machine, which is not what is tested. */
const PATIENT = { reconnect: { tryAtLeastMs: 25_000 } }

let counter = 0
function newJobId(): string {
  counter += 1
  return `job_cut${String(counter).padStart(6, '0')}`
}

test('the log of a job that ended comes whole, wherever and however often it is cut on the way', async () => {
  const { world, proxy, client } = await openCuttable()
  const { id } = await clientOf(world.url).start({ task: 'ticks', input: { count: 60, intervalMs: 0, bytes: 100 } })
  await world.jobs.outcome(refOf(id))
  const log = await eventsOf(world, refOf(id))
  await fc.assert(
    fc.asyncProperty(CUTS, fc.boolean(), async (cuts, hold) => {
      const losses: Loss[] = []
      proxy.cut()
      proxy.cuts.splice(0, Infinity, ...cuts)
      const stream = await client.attach(id, { hold, reconnect: { onLost: (loss) => losses.push(loss) } })
      expect(await collect(stream)).toEqual(log)
      expect(losses.map(({ lastSeq }) => lastSeq)).toEqual(
        losses.map(({ lastSeq }) => lastSeq).toSorted((a, b) => a - b),
      )
    }),
    { numRuns: 25 },
  )
})

test('the events of a running job come whole, and the job goes on, wherever and however often they are cut', async () => {
  const { world, proxy, client } = await openCuttable()
  let lossCount = 0
  await fc.assert(
    fc.asyncProperty(CUTS, async (cuts) => {
      const jobId = newJobId()
      proxy.cut()
      proxy.cuts.splice(0, Infinity, ...cuts)
      const spec = { task: 'ticks', input: { count: 40, intervalMs: 3, bytes: 80 }, jobId, disconnectGraceMs: 60_000 }
      const stream = await client.stream(spec, { reconnect: { onLost: () => (lossCount += 1) } })
      const events = await collect(stream)
      expect(events).toEqual(await eventsOf(world, refOf(jobId)))
      expect(typesOf(events).at(-1)).toBe('job.succeeded')
    }),
    { numRuns: 15 },
  )
  expect(lossCount).toBeGreaterThan(15)
})

/** A stream of the task `waits`, read in the background up to its output. */
async function begin(
  { client }: Cuttable,
  more: Partial<JobSpec>,
  options: StreamOptions = {},
): Promise<{ stream: JobStream; events: Promise<JobEvent[]> }> {
  const stream = await client.stream({ task: 'waits', input: null, jobId: newJobId(), ...more }, options)
  const begun = new Gate()
  const events = collect(stream, (event) => event.type === 'output' && begun.open())
  await Promise.race([begun.opened, events])
  return { stream, events }
}

test('a client that comes back within the grace takes the job over, and nothing ends it', async () => {
  const cuttable = await openCuttable()
  const back = new Gate()
  const { stream, events } = await begin(
    cuttable,
    { disconnectGraceMs: 30_000 },
    { reconnect: { onBack: () => back.open() } },
  )
  const firstHolder = stream.holder
  cuttable.proxy.cut()
  await back.opened
  expect(stream.holder).toMatch(/^holder_/)
  expect(stream.holder).not.toBe(firstHolder)
  cuttable.gate.open()
  expect(typesOf(await events)).toEqual(['job.queued', 'job.started', 'output', 'job.succeeded'])
})

test('without a grace the client comes back to a job that was cancelled, and says so', async () => {
  const cuttable = await openCuttable()
  const { events } = await begin(cuttable, {})
  cuttable.proxy.cut()
  expect((await events).at(-1)).toMatchObject({
    type: 'job.cancelled',
    cancellation: { cause: 'client_disconnected' },
  })
})

test('a reader that is busy is no reason to come back late', async () => {
  const cuttable = await openCuttable()
  const { world, proxy, gate, client } = cuttable
  const [back, idle] = [new Gate(), new Gate()]
  const jobId = newJobId()
  const stream = await client.stream(
    { task: 'waits', input: null, jobId, disconnectGraceMs: 30_000 },
    { reconnect: { onBack: () => back.open() } },
  )
  const events = collect(stream, (event) => event.type === 'job.started' && idle.opened)
  await eventually('the reader is busy', () => stream.lastSeq === 2)
  proxy.cut()
  await back.opened
  gate.open()
  await world.jobs.outcome(refOf(jobId))
  idle.open()
  expect(await events).toEqual(await eventsOf(world, refOf(jobId)))
})

test('who only looked comes back to look, and holds nothing', async () => {
  const { world, proxy, client, gate } = await openCuttable()
  const { id } = await clientOf(world.url).start({ task: 'waits', input: null })
  const [begun, back] = [new Gate(), new Gate()]
  const stream = await client.attach(id, { reconnect: { onBack: () => back.open() } })
  const events = collect(stream, (event) => event.type === 'output' && begun.open())
  await begun.opened
  proxy.cut()
  await back.opened
  expect(stream.holder).toBeUndefined()
  gate.open()
  expect(await events).toEqual(await eventsOf(world, refOf(id)))
})

test.each([
  ['reached the server: its job was cancelled for want of a holder', 0, {}, 'job.cancelled'],
  ['reached the server: its job is taken over within the grace', 0, { disconnectGraceMs: 30_000 }, 'job.succeeded'],
  ['did not reach the server: the job is started', -1, {}, 'job.succeeded'],
])('a start whose answer was cut off %s', async (_, cut, more, end) => {
  const { proxy, client, gate } = await openCuttable()
  proxy.cuts.push(cut)
  const losses: Loss[] = []
  const stream = await client.stream(
    { task: 'waits', input: null, jobId: newJobId(), ...more },
    { reconnect: { onLost: (loss) => losses.push(loss) } },
  )
  if (end === 'job.succeeded') gate.open()
  expect(typesOf(await collect(stream)).at(-1)).toBe(end)
  expect(losses).toMatchObject([{ jobId: stream.jobId, lastSeq: 0 }])
})

test('a start with an idempotency key and no id is sent again as well, and starts one job', async () => {
  const { world, proxy, client, gate } = await openCuttable()
  gate.open()
  proxy.cuts.push(0, -1, 0)
  const stream = await client.stream(
    { task: 'waits', input: null, disconnectGraceMs: 30_000 },
    { idempotencyKey: 'once' },
  )
  expect(typesOf(await collect(stream)).at(-1)).toBe('job.succeeded')
  expect((await clientOf(world.url).list()).jobs.map(({ id }) => id)).toEqual([stream.jobId])
})

test('a server that is killed and started again is found again: what ran is interrupted, what waited is taken over', async () => {
  const settings = { DATA_DIR: await temporaryFolder(), CONCURRENCY: '1' }
  const first = spawnServer(settings)
  const proxy = await openProxy(await first.url())
  const client = clientOf(proxy.url)
  const ticks = (count: number): JobSpec => ({ task: 'ticks', input: { count, intervalMs: 20 } })
  const running = await client.stream(ticks(3000), PATIENT)
  const begun = new Gate()
  const runningEvents = collect(running, (event) => event.type === 'output' && begun.open())
  await begun.opened
  const waiting = await client.stream(ticks(2), PATIENT)
  const waitingEvents = collect(waiting)
  await eventually('the job waits', () => waiting.lastSeq === 1)

  first.child.kill('SIGKILL')
  await first.exited
  proxy.aimAt(await spawnServer(settings).url())
  const interrupted = await runningEvents
  expect(interrupted.at(-1)).toMatchObject({ type: 'job.interrupted', failure: { code: 'TETHER_SERVER_CRASHED' } })
  expect(interrupted.map(({ seq }) => seq)).toEqual(interrupted.map((_, index) => index + 1))
  expect(typesOf(await waitingEvents)).toEqual(expect.arrayContaining(['job.queued', 'job.started', 'job.succeeded']))
})

test('a server that stops cleanly is waited for by the job that is to run at its next start', async () => {
  const settings = { DATA_DIR: await temporaryFolder(), CONCURRENCY: '1' }
  const first = spawnServer(settings)
  const url = await first.url()
  await startJob(url, { task: 'ticks', input: { count: 3000, intervalMs: 20 } })
  const id = await startJob(url, { task: 'ticks', input: { count: 2, intervalMs: 0 } })
  const proxy = await openProxy(url)
  const stream = await clientOf(proxy.url).attach(id, PATIENT)
  const events = collect(stream)
  await eventually('the stream is read', () => stream.lastSeq === 1)
  first.child.kill('SIGTERM')
  await first.exited
  proxy.aimAt(await spawnServer(settings).url())
  expect(typesOf(await events)).toEqual(expect.arrayContaining(['job.queued', 'job.started', 'job.succeeded']))
})
