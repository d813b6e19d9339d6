import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { openRedisConnection } from '../../src/cluster/RedisConnection.ts'
import { type FollowedJob, Relay } from '../../src/cluster/Relay.ts'
import { JobReader } from '../../src/eventlog/JobReader.ts'
import { LogPages } from '../../src/eventlog/LogPages.ts'
import type { JobRecord } from '../../src/job/record.ts'
import { isTerminal } from '../../src/job/status.ts'
import type { EventBatch, JobStore, StoreChange } from '../../src/store/JobStore.ts'
import { CollectingSink } from '../eventlog/CollectingSink.ts'
import { linesOf } from '../store/contract.ts'
import { append, batch, move, recordNamed, refTo, remove, statusBatch, upTo } from '../store/records.ts'
import { eventually } from '../world.ts'
import { RedisProxy } from './RedisProxy.ts'
import type { RedisServer } from './RedisServer.ts'
import { newPrefix, openStore, pause, startServer } from './world.ts'

const PREFIX = 'tether:'

interface RelayUrls {
  readonly url: string
  /** Where messages are heard, if not there. */
  readonly subscriberUrl?: string
  /** Where the relay reads, if not there. */
  readonly readingUrl?: string
  readonly prefix?: string
  readonly commandTimeoutMs?: number
}

/** What a server has of jobs that run elsewhere. */
class Replica {
  readonly store: JobStore
  readonly relay: Relay
  readonly #pages: LogPages

  constructor(store: JobStore, relay: Relay) {
    this.store = store
    this.relay = relay
    this.#pages = new LogPages({ store, clock: systemClock })
  }

  static async open(urls: RelayUrls): Promise<Replica> {
    const { url, subscriberUrl = url, readingUrl = url, prefix = PREFIX, commandTimeoutMs = 2000 } = urls
    const store = await openStore(url, { prefix })
    const connection = await openRedisConnection({ url: readingUrl })
    const relay = await Relay.open({ url: subscriberUrl, commandTimeoutMs, connection, prefix, clock: systemClock })
    onTestFinished(async () => {
      await relay.close()
      await connection.close()
    })
    return new Replica(store, relay)
  }

  async follow(job: JobRecord): Promise<FollowedJob> {
    return this.relay.follow(refTo(job), (await this.recordOf(job)).lastSeq)
  }

  async recordOf(job: JobRecord): Promise<JobRecord> {
    const found = await this.store.lookup(job)
    if (found.kind !== 'found') throw new Error('the job must be there')
    return found.record
  }

  /** A reader of the job, which is over when its sink is. */
  async attach(job: JobRecord, after: number, sink = new CollectingSink()): Promise<Reading> {
    const record = await this.recordOf(job)
    const followed = isTerminal(record.state.status) ? undefined : this.relay.follow(refTo(job), record.lastSeq)
    const place = Math.min(after, record.lastSeq)
    const reader = new JobReader({
      ref: refTo(job),
      pages: this.#pages,
      sink,
      named: true,
      log: followed?.log,
      lastSeq: record.lastSeq,
      after: place,
    })
    reader.start()
    const over = sink.over.finally(() => followed?.release())
    over.catch(() => undefined)
    return { place, sink, reader, over }
  }
}

interface Reading {
  readonly place: number
  readonly sink: CollectingSink
  readonly reader: JobReader
  readonly over: Promise<void>
}

/** The server on which a job runs: writes one entry after another. */
class Writer {
  readonly job: JobRecord
  readonly #store: JobStore
  #lastSeq = 0

  constructor(store: JobStore, job: JobRecord) {
    this.#store = store
    this.job = job
  }

  get lastSeq(): number {
    return this.#lastSeq
  }

  async start(): Promise<void> {
    const { changes, lastSeq } = upTo(this.job, 'running')
    this.#lastSeq = lastSeq
    await this.#commit(changes)
  }

  async write(count: number, padding = ''): Promise<void> {
    const events = batch(this.#lastSeq + 1, count, padding)
    this.#lastSeq = events.lastSeq
    await this.#commit([{ kind: 'append', ref: refTo(this.job), events }])
  }

  /** Many entries in one commit, each of one event. */
  async writeEach(count: number, padding: string): Promise<void> {
    const ref = refTo(this.job)
    const firstSeq = this.#lastSeq + 1
    this.#lastSeq += count
    const changes = Array.from({ length: count }, (_, n): StoreChange => {
      return { kind: 'append', ref, events: batch(firstSeq + n, 1, padding) }
    })
    await this.#commit(changes)
  }

  async end(): Promise<void> {
    const events: EventBatch = statusBatch(this.#lastSeq + 1, 'succeeded')
    this.#lastSeq = events.lastSeq
    await this.#commit([{ ...move(this.job, 'running', 'succeeded', 1), events }])
  }

  async #commit(changes: readonly StoreChange[]): Promise<void> {
    for (const result of await this.#store.commit(changes)) expect(result).toEqual({ ok: true })
  }
}

async function openWriter(url: string, job = recordNamed('a'), prefix = PREFIX): Promise<Writer> {
  const writer = new Writer(await openStore(url, { prefix }), job)
  await writer.start()
  return writer
}

/** Each has exactly what comes after its place, once, and then the end. */
async function expectTails(store: JobStore, job: JobRecord, readings: readonly Reading[]): Promise<void> {
  await Promise.all(readings.map(({ over }) => over))
  const lines = await linesOf(store, job)
  const expected = lines.map((line, index) => ({ jobId: job.id, seq: index + 1, ...JSON.parse(line) }))
  for (const { sink, place } of readings) {
    expect(sink.events).toEqual(expected.slice(place))
    expect(sink).toMatchObject({ ends: 1, writesAfterEnd: 0 })
  }
}

/** Does something over and over until the test ends. */
function every(ms: number, act: () => Promise<unknown>): void {
  const over = new AbortController()
  const running = (async () => {
    while (!over.signal.aborted) {
      await pause(ms)
      await act()
    }
  })()
  onTestFinished(() => {
    over.abort()
    return running
  })
}

async function clientsOf(server: RedisServer): Promise<number> {
  const list = String(await server.run('CLIENT', 'LIST', 'TYPE', 'normal'))
  const subscribers = String(await server.run('CLIENT', 'LIST', 'TYPE', 'pubsub'))
  return [list, subscribers]
    .join('\n')
    .split('\n')
    .filter((line) => line.startsWith('id=')).length
}

describe('a reader of a job that runs elsewhere', () => {
  test('gets exactly what comes after its place, whenever it comes and however slow it is', async () => {
    const server = await startServer()
    const shape = fc.record({
      writes: fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 25 }),
      readers: fc.array(
        fc.record({
          atWrite: fc.nat({ max: 25 }),
          after: fc.nat({ max: 60 }),
          rooms: fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }),
        }),
        { minLength: 1, maxLength: 6 },
      ),
    })
    await fc.assert(
      fc.asyncProperty(shape, async ({ writes, readers }) => {
        const prefix = newPrefix()
        const replica = await Replica.open({ url: server.url, prefix })
        const writer = await openWriter(server.url, recordNamed('a'), prefix)
        const attaching: Promise<Reading>[] = []
        for (let n = 0; n <= writes.length; n += 1) {
          for (const { atWrite, after, rooms } of readers) {
            if (Math.min(atWrite, writes.length) !== n) continue
            let writesSeen = 0
            let reader: JobReader | undefined
            const sink = new CollectingSink(() => {
              writesSeen += 1
              const hasRoom = rooms[writesSeen % rooms.length] === true
              if (!hasRoom) setImmediate(() => setImmediate(() => reader?.resume()))
              return hasRoom
            })
            attaching.push(
              replica.attach(writer.job, after, sink).then((reading) => {
                reader = reading.reader
                return reading
              }),
            )
          }
          const count = writes[n]
          if (count !== undefined) await writer.write(count, 'y'.repeat(n * 30))
        }
        await writer.end()
        await expectTails(replica.store, writer.job, await Promise.all(attaching))
      }),
      { numRuns: 25 },
    )
  })

  test.each([
    ['is cut every 100 ms', { killsEveryMs: 100, dropShare: 0 }],
    ['loses messages', { killsEveryMs: 0, dropShare: 0.3 }],
    ['loses all messages', { killsEveryMs: 0, dropShare: 1 }],
    ['is cut and loses messages', { killsEveryMs: 100, dropShare: 0.3 }],
  ])('has the whole log where the connection %s', async (_, { killsEveryMs, dropShare }) => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    proxy.dropsMessage = () => Math.random() < dropShare
    const replica = await Replica.open({ url: server.url, subscriberUrl: proxy.url })
    if (killsEveryMs > 0) every(killsEveryMs, () => server.run('CLIENT', 'KILL', 'TYPE', 'pubsub'))
    const writers = await Promise.all(['a', 'b', 'c'].map((name) => openWriter(server.url, recordNamed(name))))
    const readings: Reading[][] = writers.map(() => [])
    for (let n = 0; n < 150; n += 1) {
      for (const [index, writer] of writers.entries()) {
        if (n % 30 === 0) readings[index]?.push(await replica.attach(writer.job, n))
        await writer.write(1 + (n % 3))
      }
      await pause(8)
    }
    await Promise.all(writers.map((writer) => writer.end()))
    for (const [index, { job }] of writers.entries()) await expectTails(replica.store, job, readings[index] ?? [])
  })

  test('is told of the end at once, after all that came before it', async () => {
    const server = await startServer()
    const replica = await Replica.open({ url: server.url })
    const writer = await openWriter(server.url)
    const reading = await replica.attach(writer.job, 0)
    const { log } = await replica.follow(writer.job)
    const finals: boolean[] = []
    log.subscribe({ onBatch: ({ isFinal }) => finals.push(isFinal), onLost: () => undefined })
    let hasEnded = false
    const ended = log.untilEnded().then(() => (hasEnded = true))
    await writer.write(3)
    await eventually('it is heard', () => log.publishedSeq === writer.lastSeq)
    expect(hasEnded).toBe(false)
    const beganMs = performance.now()
    await writer.end()
    await ended
    expect(performance.now() - beganMs).toBeLessThan(700)
    expect(log).toMatchObject({ hasEnded: true, publishedSeq: writer.lastSeq })
    expect(finals).toEqual([false, true])
    await expectTails(replica.store, writer.job, [reading])
  })

  test('goes on where Redis was killed and started again', async () => {
    const server = await startServer({ isDurable: true })
    const replica = await Replica.open({ url: server.url })
    const writer = await openWriter(server.url)
    const reading = await replica.attach(writer.job, 0)
    await writer.write(5)
    // One that still reads what was there before it came is told of the failure, and comes back.
    await eventually('it follows', () => reading.sink.events.length === writer.lastSeq)
    await server.kill()
    await pause(200)
    await server.restart()
    // Nobody hears this: the connections come back later.
    const other = await openStore(server.url)
    const events = batch(writer.lastSeq + 1, 3)
    const end = { ...move(writer.job, 'running', 'succeeded', 1), events: statusBatch(events.lastSeq + 1, 'succeeded') }
    await other.commit([{ kind: 'append', ref: refTo(writer.job), events }, end])
    await expectTails(other, writer.job, [reading])
  })

  test('goes on where Redis stood still for longer than anybody waits', async () => {
    const server = await startServer()
    const replica = await Replica.open({ url: server.url, commandTimeoutMs: 300 })
    const writer = await openWriter(server.url)
    const reading = await replica.attach(writer.job, 0)
    await eventually('it has the start', () => reading.sink.events.length === 2)
    const written = writer.write(3)
    server.pause()
    await pause(1700)
    server.resume()
    await written
    await writer.end()
    await expectTails(replica.store, writer.job, [reading])
  })

  test('has the whole log where both connections are cut all the time, and messages are lost', async () => {
    const server = await startServer()
    const [subscriberProxy, readingProxy] = [await RedisProxy.start(server.port), await RedisProxy.start(server.port)]
    const urls = { url: server.url, subscriberUrl: subscriberProxy.url, readingUrl: readingProxy.url }
    const replica = await Replica.open(urls)
    subscriberProxy.dropsMessage = () => Math.random() < 0.2
    const writer = await openWriter(server.url)
    const readings = [await replica.attach(writer.job, 0), await replica.attach(writer.job, 0)]
    for (let n = 0; n < 300; n += 1) {
      await writer.write(1 + (n % 3))
      if (n % 20 === 0) subscriberProxy.cut()
      if (n % 27 === 0) readingProxy.cut()
      await pause(4)
    }
    await writer.end()
    await expectTails(replica.store, writer.job, readings)
  })

  test('is told so where Redis lost the job', async () => {
    const server = await startServer()
    const replica = await Replica.open({ url: server.url })
    const writer = await openWriter(server.url)
    const reading = await replica.attach(writer.job, 0)
    const { log } = await replica.follow(writer.job)
    await eventually('it has the start', () => reading.sink.events.length === 2)
    await server.restart()
    await expect(reading.over).rejects.toThrow(`the job ${writer.job.id} is no longer in Redis`)
    await expect(log.untilEnded()).rejects.toThrow('is no longer in Redis')
  })

  test('is told so where Redis lost the tail of the log', async () => {
    const server = await startServer({ isDurable: true })
    const replica = await Replica.open({ url: server.url })
    const writer = await openWriter(server.url)
    const reading = await replica.attach(writer.job, 0)
    await writer.write(4)
    await eventually('it has them', () => reading.sink.events.length === 6)
    await server.run('HSET', `tether:job:default:${writer.job.id}`, 'lastSeq', '2')
    await expect(reading.over).rejects.toThrow('after 2, where 6 was the last')
  })

  test('is told so where the job is deleted before it heard of its end', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    proxy.dropsMessage = () => true
    const replica = await Replica.open({ url: server.url, subscriberUrl: proxy.url })
    const writer = await openWriter(server.url)
    const reading = await replica.attach(writer.job, 0)
    await eventually('it has the start', () => reading.sink.events.length === 2)
    await writer.end()
    await replica.store.commit([remove(writer.job)])
    // It may look at where the job stands before it is deleted, and read its log after.
    await expect(reading.over).rejects.toThrow(/is no longer in Redis|has nothing after/)
  })

  test('has all of it where the subscription takes effect only after the end', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const replica = await Replica.open({ url: server.url, subscriberUrl: proxy.url })
    const writer = await openWriter(server.url)
    proxy.holdsRequests = true
    const reading = await replica.attach(writer.job, 0)
    await writer.write(10)
    await writer.end()
    proxy.holdsRequests = false
    proxy.deliver()
    await expectTails(replica.store, writer.job, [reading])
  })

  test('has all of it where messages came to nothing without a word', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const replica = await Replica.open({ url: server.url, subscriberUrl: proxy.url })
    const writer = await openWriter(server.url)
    const reading = await replica.attach(writer.job, 0)
    await eventually('it has the start', () => reading.sink.events.length === 2)
    proxy.losesAnswers = true
    await writer.write(10)
    await writer.end()
    await expectTails(replica.store, writer.job, [reading])
  })

  test('who follows a job that has ended meanwhile gets the end', async () => {
    const server = await startServer()
    const replica = await Replica.open({ url: server.url })
    const writer = await openWriter(server.url)
    await writer.end()
    const { log } = replica.relay.follow(refTo(writer.job), writer.lastSeq)
    await log.untilEnded()
    expect(log).toMatchObject({ hasEnded: true, publishedSeq: writer.lastSeq })
  })

  test('is told of a hole that the limit on the length of the log made while it was cut off', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const replica = await Replica.open({ url: server.url, subscriberUrl: proxy.url })
    const writer = new Writer(await openStore(server.url, { maxLogBytes: 3000 }), recordNamed('a'))
    await writer.start()
    const reading = await replica.attach(writer.job, 0)
    await eventually('it has the start', () => reading.sink.events.length === 2)
    let messages = 0
    proxy.dropsMessage = () => (messages += 1) <= 9
    await writer.writeEach(10, 'y'.repeat(900))
    await writer.end()
    await reading.over
    const shape = reading.sink.events.map((event) => (event.type === 'gap' ? [event.from, event.to] : event.seq))
    expect(shape).toEqual([1, 2, [3, 9], 10, 11, 12, 13])
  })
})

describe('a relay', () => {
  test('has one subscription a job, which goes with the last follower, and one connection', async () => {
    const server = await startServer()
    const replica = await Replica.open({ url: server.url })
    const jobs = Array.from({ length: 500 }, (_, n) => recordNamed(`n${n}`))
    await replica.store.commit(jobs.flatMap((job) => upTo(job, 'running').changes))
    const before = await clientsOf(server)
    const followed = jobs.flatMap((job) => [replica.relay.follow(job, 2), replica.relay.follow(job, 2)])
    const channels = async () => ((await server.run('PUBSUB', 'CHANNELS')) as readonly string[]).length
    await expect.poll(channels).toBe(500)
    // Longer than it takes to look around.
    await pause(1200)
    expect(await clientsOf(server)).toBe(before)
    expect(new Set(followed.map(({ log }) => log)).size).toBe(500)
    for (const job of followed.filter((_, n) => n % 2 === 0)) {
      job.release()
      job.release()
    }
    expect(await channels()).toBe(500)
    for (const job of followed) job.release()
    await expect.poll(channels).toBe(0)
  })

  test('that was cut off, or whose other end went without a word, hears again at once when it is back', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const replica = await Replica.open({ url: server.url, subscriberUrl: proxy.url, commandTimeoutMs: 300 })
    const writer = await openWriter(server.url)
    const { log } = await replica.follow(writer.job)
    const channels = () => server.run('PUBSUB', 'NUMSUB', `tether:log:default:${writer.job.id}`)
    const subscribers = async () => ((await channels()) as readonly unknown[])[1]
    const hears = async (subscriberCount: number): Promise<void> => {
      await expect.poll(subscribers, { timeout: 5000 }).toBe(subscriberCount)
      // Sooner than a look around would find it, a few times.
      for (let n = 0; n < 5; n += 1) {
        await writer.write(1)
        await eventually('it is heard', () => log.publishedSeq === writer.lastSeq, 500)
      }
    }
    await hears(1)
    await server.run('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await hears(1)
    proxy.silence()
    // The old one stays as it is.
    await hears(2)
  })

  test('whose other end went without a word tells who watches all jobs, also where no job is followed', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const replica = await Replica.open({ url: server.url, subscriberUrl: proxy.url, commandTimeoutMs: 300 })
    let heard = 0
    let missed = 0
    replica.relay.watch({ onChange: () => (heard += 1), onMissed: () => (missed += 1) })
    const watchers = async () => (await server.run('PUBSUB', 'NUMSUB', 'tether:changes')) as readonly unknown[]
    await expect.poll(async () => (await watchers())[1], { timeout: 5000 }).toBe(1)
    proxy.silence()
    await expect.poll(() => missed, { timeout: 10_000 }).toBe(1)
    // The old one stays as it is.
    await expect.poll(async () => (await watchers())[1], { timeout: 5000 }).toBe(2)
    await openWriter(server.url)
    await eventually('it hears again', () => heard > 0)
  })

  test('reads few logs at a time, however many have to be', async () => {
    const server = await startServer()
    const subscriberProxy = await RedisProxy.start(server.port)
    const readingProxy = await RedisProxy.start(server.port)
    const urls = { url: server.url, subscriberUrl: subscriberProxy.url, readingUrl: readingProxy.url }
    const replica = await Replica.open(urls)
    const jobs = Array.from({ length: 200 }, (_, n) => recordNamed(`n${n}`))
    await replica.store.commit(jobs.flatMap((job) => upTo(job, 'running').changes))
    const logs = jobs.map((job) => replica.relay.follow(job, 2).log)
    const channels = async () => ((await server.run('PUBSUB', 'CHANNELS')) as readonly string[]).length
    await expect.poll(channels).toBe(jobs.length)
    // Once for the move, and once to look where the job stands.
    const looks = async () =>
      Number(/cmdstat_hmget:calls=(\d+)/.exec(String(await server.run('INFO', 'commandstats')))?.[1])
    await expect.poll(looks).toBe(2 * jobs.length)
    readingProxy.holdsRequests = true
    let messages = 0
    subscriberProxy.dropsMessage = () => (messages += 1) <= jobs.length
    for (const seq of [3, 4]) await replica.store.commit(jobs.map((job) => append(job, seq)))
    await eventually('they have heard', () => logs.every(({ isSilent }) => !isSilent))
    // Each asks for a page with about 100 bytes.
    await eventually('some read', () => readingProxy.heldBytes > 0)
    expect(readingProxy.heldBytes).toBeLessThan(20 * 150)
    readingProxy.holdsRequests = false
    readingProxy.deliver()
    await eventually('all have all', () => logs.every(({ publishedSeq }) => publishedSeq === 4), 900)
  })

  test('may be asked for a job again while it lets go of it', async () => {
    const server = await startServer()
    const replica = await Replica.open({ url: server.url })
    const writer = await openWriter(server.url)
    let followed = await replica.follow(writer.job)
    for (let n = 0; n < 300; n += 1) {
      const written = writer.write(1)
      followed.release()
      if (n % 3 === 0) await pause(1)
      followed = replica.relay.follow(refTo(writer.job), writer.lastSeq - 1)
      await written
      if (n % 10 === 0) await eventually('it is heard', () => followed.log.publishedSeq === writer.lastSeq, 900)
    }
    await writer.end()
    await followed.log.untilEnded()
  })

  test('that closes tells whoever follows, and leaves nothing open', async () => {
    const server = await startServer()
    const replica = await Replica.open({ url: server.url })
    const before = await clientsOf(server)
    const writer = await openWriter(server.url)
    const reading = await replica.attach(writer.job, 0)
    await eventually('it has the start', () => reading.sink.events.length === 2)
    await Promise.all([replica.relay.close(), replica.relay.close()])
    await expect(reading.over).rejects.toThrow('this server stops')
    await expect(replica.relay.follow(refTo(writer.job), 2).log.untilEnded()).rejects.toThrow('this server stops')
    // The writer's has come, the relay's has gone.
    expect(await clientsOf(server)).toBe(before)
  })
})
