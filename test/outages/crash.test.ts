import { expect, test } from 'vitest'
import { SseParser } from '../../src/client/SseParser.ts'
import { isTerminalEvent, type JobEvent } from '../../src/job/event.ts'
import type { OnDisconnect } from '../../src/job/policy.ts'
import type { JobView } from '../../src/job/view.ts'
import { spawnServer } from '../jobs/serverProcess.ts'
import { jobOf } from '../server/requests.ts'
import { eventually, parseFrames, temporaryFolder } from '../world.ts'

/** All in all; each lane is a folder of its own, so that starts of servers overlap. */
const ROUNDS = 200
const LANES = 4

/** Few slots, so that some jobs of every round wait in the queue when their server dies. */
const SETTINGS = { CONCURRENCY: '4', LOG_LEVEL: 'warn', CONTAINMENT: 'group', SETTLE_MS: '500' }

/** What a client was told of one job, and saw of it. */
interface Told {
  readonly onDisconnect: OnDisconnect
  /** The data of every event that was read whole, by its number. */
  readonly events: Map<number, string>
}

/** Clients of one server, until it dies: each was told of a job, or was not, and reads as much of it as comes. */
class Clients {
  readonly #told: Map<string, Told>
  readonly #running: Promise<void>[] = []
  #isOver = false

  constructor(told: Map<string, Told>) {
    this.#told = told
  }

  /** Starts jobs of every kind without pause. */
  begin(url: string): void {
    for (const lane of [0, 1, 2, 3, 4, 5]) this.#running.push(this.#startJobs(url, lane))
  }

  /** To be called when the server is dead. Settles when the last byte was looked at. */
  async end(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#running)
  }

  async #startJobs(url: string, lane: number): Promise<void> {
    for (let n = 0; !this.#isOver && n < 20; n += 1) {
      try {
        await this.#startOne(url, lane + n)
      } catch (error) {
        // The connection broke: the server is dead, or dies as this is read.
        if (!(error instanceof TypeError)) throw error
        return
      }
    }
  }

  async #startOne(url: string, kind: number): Promise<void> {
    const task =
      kind % 3 === 0
        ? { task: 'command', input: { command: 'echo begun; sleep 0.03; echo done' } }
        : { task: 'ticks', input: { count: 2 + (kind % 11), intervalMs: kind % 5, bytes: kind % 4 === 0 ? 5000 : 0 } }
    const onDisconnect: OnDisconnect = kind % 4 === 1 ? 'cancel' : 'continue'
    const isStreamed = kind % 2 === 0
    const response = await fetch(`${url}${isStreamed ? '/execute/stream' : '/jobs'}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...task, onDisconnect }),
    })
    const id = isStreamed
      ? response.headers.get('x-tether-job-id')
      : response.headers.get('location')?.split('/').at(-1)
    if (id === undefined || id === null) throw new Error(`a start was answered with ${response.status}`)
    const told: Told = { onDisconnect, events: new Map() }
    this.#told.set(id, told)
    if (!isStreamed) {
      await response.arrayBuffer()
      return
    }
    const parser = new SseParser()
    for await (const chunk of response.body ?? []) {
      for (const { id: seq, data } of parser.push(chunk)) told.events.set(Number(seq), data)
    }
  }
}

/** Reads a whole log. */
async function logOf(url: string, id: string): Promise<readonly JobEvent[]> {
  return parseFrames(await (await fetch(`${url}/jobs/${id}/events`)).text())
}

async function expectKept(url: string, id: string, told: Told): Promise<JobView> {
  const view = await jobOf(url, id)
  expect(view.id, `job ${id} must be there`).toBe(id)
  expect(view.terminal, `job ${id} must have ended, and is ${view.status}`).toBe(true)
  const log = await logOf(url, id)
  expect(log.map(({ seq }) => seq)).toEqual(log.map((_, index) => index + 1))
  expect(log.filter(({ type }) => isTerminalEvent(type)).map(({ type }) => type)).toEqual([`job.${view.status}`])
  expect(log.at(-1)?.type).toBe(`job.${view.status}`)
  expect(view.lastSeq).toBe(log.length)
  for (const [seq, data] of told.events) expect(log[seq - 1]).toEqual(JSON.parse(data))
  return view
}

/** Kills a server at random moments over and over, each time with clients at work. Gives how its jobs ended. */
async function lane(rounds: number): Promise<readonly JobView[]> {
  const dataDir = await temporaryFolder()
  const told = new Map<string, Told>()
  for (let round = 0; round < rounds; round += 1) {
    const server = spawnServer({ ...SETTINGS, DATA_DIR: dataDir })
    const clients = new Clients(told)
    // Now and then it dies while it takes up what the one before has left.
    if (round % 8 === 7) await someTime(700)
    else {
      clients.begin(await server.url())
      await someTime(300)
    }
    server.child.kill('SIGKILL')
    await server.exited
    await clients.end()
    expect(server.err()).toBe('')
  }
  const last = spawnServer({ ...SETTINGS, DATA_DIR: dataDir })
  const url = await last.url()
  // Those that wait for a holder do so for 10 s.
  await eventually(
    'every job has ended',
    async () => (await listed(url, 'queued,running,stopping,cancelling')).length === 0,
    30_000,
  )
  const views: JobView[] = []
  for (const [id, job] of told) views.push(await expectKept(url, id, job))
  const all = await listed(url)
  expect(new Set(all.map(({ id }) => id)).size).toBe(all.length)
  // Also those of which no client was told any more have one state, and a log that ends with it.
  for (const { id } of all)
    if (!told.has(id)) await expectKept(url, id, { onDisconnect: 'continue', events: new Map() })
  last.child.kill('SIGTERM')
  expect(await last.exited).toEqual({ code: 0, signal: null })
  return views
}

/** The moment is the point: anywhere from the first start to many jobs that run, end and are read. */
function someTime(maxMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.random() * maxMs))
}

async function listed(url: string, statuses = ''): Promise<readonly JobView[]> {
  const jobs: JobView[] = []
  for (let cursor = ''; ; ) {
    const query = `limit=200${statuses === '' ? '' : `&status=${statuses}`}${cursor === '' ? '' : `&cursor=${cursor}`}`
    const page: { jobs: JobView[]; nextCursor: string | null } = JSON.parse(
      await (await fetch(`${url}/jobs?${query}`)).text(),
    )
    jobs.push(...page.jobs)
    if (page.nextCursor === null) return jobs
    cursor = page.nextCursor
  }
}

test(`after ${ROUNDS} SIGKILLs at random moments no job is lost or in two states, and what was seen is in the log`, async () => {
  const lanes = await Promise.all(Array.from({ length: LANES }, () => lane(ROUNDS / LANES)))
  const views = lanes.flat()
  const count = (status: string, cause?: string): number =>
    views.filter((view) => view.status === status && (cause === undefined || view.cancellation?.cause === cause)).length
  // The moments must have met jobs in every place, or this shows little.
  expect(count('succeeded')).toBeGreaterThan(20)
  expect(count('interrupted')).toBeGreaterThan(20)
  expect(count('cancelled', 'client_disconnected')).toBeGreaterThan(0)
  for (const { status, failure } of views) {
    if (status === 'interrupted') expect(failure?.code).toBe('TETHER_SERVER_CRASHED')
    else expect(['succeeded', 'cancelled']).toContain(status)
  }
}, 600_000)
