import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { JobReader } from '../../src/eventlog/JobReader.ts'
import type { JobEvent } from '../../src/job/event.ts'
import type { JobRef } from '../../src/job/key.ts'
import type { JobStore } from '../../src/store/JobStore.ts'
import type { Tether } from '../../src/tether.ts'
import { eventsOf, eventually, Gate, openWorld, startOf, taskOf, untilRunning } from '../world.ts'
import { CollectingSink } from './CollectingSink.ts'
import { isMoveTo, openHeldWorld } from './heldWorld.ts'

/** Sends `count` small events and texts, in turns of the loop that the test's seed decides. */
const chatters = taskOf('chatters', async (ctx, input) => {
  const count = Number(input)
  for (let n = 0; n < count; n += 1) {
    await ctx.output(`${n} ${'y'.repeat(n % 700)}\n`, n % 3 === 0 ? 'stderr' : 'stdout')
    if (n % 5 === 0) await ctx.progress(n)
    if (n % 7 === 0) await ctx.sleep(0)
  }
})

function seqsOf(events: readonly JobEvent[]): number[] {
  return events.map(({ seq }) => seq)
}

async function attach(tether: Tether, ref: JobRef, after: number, sink: CollectingSink): Promise<JobReader> {
  const { reader } = await tether.jobs.attach(ref, { after, named: true, sink })
  return reader
}

async function expectStored(store: JobStore, ref: JobRef, seq: number): Promise<void> {
  const batches = await store.readEvents(ref, seq - 1, 1)
  expect(batches.at(-1)?.lastSeq ?? 0).toBeGreaterThanOrEqual(seq)
}

describe('a reader', () => {
  test('gets exactly the tail after its place, however slow it is and whenever it comes', async () => {
    const tether = await openWorld({ tasks: [chatters] })
    const readers = fc.array(
      fc.record({
        after: fc.nat({ max: 120 }),
        attachAtSeq: fc.nat({ max: 150 }),
        // Whether there is room after each write, over and over.
        rooms: fc.array(fc.boolean(), { minLength: 1, maxLength: 6 }),
        pauseTurns: fc.nat({ max: 3 }),
      }),
      { minLength: 1, maxLength: 6 },
    )
    await fc.assert(
      fc.asyncProperty(readers, async (wanted) => {
        const { ref } = await tether.jobs.start(startOf('chatters', 120))
        const sinks = await Promise.all(
          wanted.map(async ({ after, attachAtSeq, rooms, pauseTurns }) => {
            await eventually('it is time to attach', async () => {
              const view = await tether.jobs.job(ref)
              return view.terminal || view.lastSeq >= attachAtSeq
            })
            // A place that is not there yet counts as the end of the log: the tail begins at the place that is there.
            const place = Math.min(after, (await tether.jobs.job(ref)).lastSeq)
            let writes = 0
            const resume = (turns: number): void => {
              if (turns === 0) reader.resume()
              else setImmediate(() => resume(turns - 1))
            }
            const sink = new CollectingSink(() => {
              writes += 1
              const hasRoom = rooms[writes % rooms.length] === true
              if (!hasRoom) setImmediate(() => resume(pauseTurns))
              return hasRoom
            })
            const reader = await attach(tether, ref, place, sink)
            reader.start()
            await sink.over
            return { place, sink }
          }),
        )
        const whole = await eventsOf(tether, ref)
        expect(seqsOf(whole)).toEqual(whole.map((_, index) => index + 1))
        for (const { place, sink } of sinks) {
          expect(sink.events).toEqual(whole.slice(place))
          expect(sink).toMatchObject({ ends: 1, writesAfterEnd: 0 })
        }
      }),
      { numRuns: 12 },
    )
  })

  test('is one of many: each gets all of it', async () => {
    const tether = await openWorld({ tasks: [chatters] })
    const { ref } = await tether.jobs.start(startOf('chatters', 60))
    const sinks = Array.from({ length: 200 }, () => new CollectingSink())
    for (const sink of sinks) (await attach(tether, ref, 0, sink)).start()
    await Promise.all(sinks.map((sink) => sink.over))
    const whole = await eventsOf(tether, ref)
    for (const sink of sinks) expect(seqsOf(sink.events)).toEqual(seqsOf(whole))
  })

  test('of a job that has ended gets what is left and the end, and from its last event on only the end', async () => {
    const tether = await openWorld({ tasks: [chatters] })
    const { ref } = await tether.jobs.start(startOf('chatters', 10))
    const { lastSeq } = await tether.jobs.outcome(ref)
    const whole = await eventsOf(tether, ref)
    for (const after of [0, 1, lastSeq - 1, lastSeq]) {
      const sink = new CollectingSink()
      const reader = await attach(tether, ref, after, sink)
      reader.start()
      await sink.over
      expect(sink.events).toEqual(whole.slice(after))
    }
  })

  test('that has closed is given nothing more', async () => {
    const go = new Gate()
    const tether = await openWorld({ tasks: [taskOf('gated', async () => go.opened)] })
    const { ref } = await tether.jobs.start(startOf('gated', null))
    const sink = new CollectingSink()
    const reader = await attach(tether, ref, 0, sink)
    reader.start()
    await eventually('it has the start', () => sink.events.length >= 1)
    reader.close()
    reader.close()
    const before = sink.frames
    go.open()
    await tether.jobs.outcome(ref)
    reader.resume()
    expect(sink.frames).toBe(before)
    expect(sink.ends).toBe(0)
  })

  test('whose sink throws fails alone: the job and the other readers go on', async () => {
    const go = new Gate()
    const gated = taskOf('gated', async (ctx) => {
      await go.opened
      await ctx.output('hello')
    })
    const tether = await openWorld({ tasks: [gated] })
    const { ref } = await tether.jobs.start(startOf('gated', null))
    await untilRunning(tether, ref)
    const broken = new CollectingSink(() => {
      throw new Error('the sink is broken')
    })
    const sound = new CollectingSink()
    // Up to date when they come, so that what follows comes live.
    const { lastSeq } = await tether.jobs.job(ref)
    for (const sink of [broken, sound]) (await attach(tether, ref, lastSeq, sink)).start()
    go.open()
    await expect(broken.over).rejects.toThrow('the sink is broken')
    await sound.over
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
    expect((await eventsOf(tether, ref)).length).toBeGreaterThan(3)
  })
})

describe('what a reader is shown', () => {
  test('is in the store already', async () => {
    const committed = new Gate()
    const go = new Gate()
    const gated = taskOf('gated', async (ctx) => {
      await go.opened
      await ctx.output('hello')
    })
    const { tether, store } = await openHeldWorld({ tasks: [gated] })
    const { ref } = await tether.jobs.start(startOf('gated', null))
    await untilRunning(tether, ref)
    const sink = new CollectingSink()
    ;(await attach(tether, ref, 0, sink)).start()
    await eventually('it has what was written', () => sink.events.length === 2)
    store.holdCommits(() => committed.opened)
    go.open()
    await eventually(
      'the end is asked to be written',
      () => store.asked.length > 0 && tether.orchestrator.getActiveExecutionCount() === 0,
    )
    expect(sink.events).toHaveLength(2)
    expect((await tether.jobs.job(ref)).status).toBe('running')
    committed.open()
    await sink.over
    expect(seqsOf(sink.events)).toEqual([1, 2, 3, 4])
  })

  test('is in the store at every single write', async () => {
    const { tether, store } = await openHeldWorld({ tasks: [chatters] })
    const { ref } = await tether.jobs.start(startOf('chatters', 100))
    const checks: Promise<void>[] = []
    const sink = new CollectingSink(() => {
      const last = sink.events.at(-1)
      if (last !== undefined) {
        checks.push(expectStored(store, ref, last.seq))
      }
      return true
    })
    ;(await attach(tether, ref, 0, sink)).start()
    await sink.over
    await Promise.all(checks)
    expect(checks.length).toBeGreaterThan(3)
  })

  test('is told in one commit with the status: an end that is not written is not shown', async () => {
    const committed = new Gate()
    const { tether, store } = await openHeldWorld({ tasks: [taskOf('quick', async () => 1)] })
    let held = 0
    store.holdCommits(async (changes) => {
      if (!isMoveTo('succeeded')(changes)) return
      held += 1
      await committed.opened
    })
    const { ref } = await tether.jobs.start(startOf('quick', null))
    await eventually('the end is being written', () => held === 1)
    expect((await tether.jobs.job(ref)).terminal).toBe(false)
    committed.open()
    expect((await tether.jobs.outcome(ref)).terminal).toBe(true)
  })
})
