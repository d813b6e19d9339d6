import Type from 'typebox'
import { defineTask } from '../../src/execution/task.ts'
import { sharedNowMs } from '../clock.ts'

/** What the tasks of the benches do. `beginAt` is wall time: until then a stream is open and still. */
export type LoadOrder =
  | { readonly kind: 'ticking'; readonly intervalMs: number }
  | { readonly kind: 'bursting'; readonly perTurn: number; readonly text: string }

const beginAt = Type.Integer({ minimum: 0 })

/** The built-in `ticks`, without an end. */
const ticking = defineTask({
  name: 'ticking',
  input: Type.Object({ kind: Type.Literal('ticking'), beginAt, intervalMs: Type.Integer({ minimum: 0 }) }),
  async run(ctx, { intervalMs, ...input }) {
    await ctx.sleep(Math.max(0, input.beginAt - Date.now()))
    for (let n = 1; ; n += 1) {
      await ctx.sleep(intervalMs)
      await ctx.output(`tick ${n}\n`)
    }
  },
})

/** Sends `perTurn` events in each turn of the loop, for as long as it is let. */
const bursting = defineTask({
  name: 'bursting',
  input: Type.Object({
    kind: Type.Literal('bursting'),
    beginAt,
    perTurn: Type.Integer({ minimum: 1 }),
    text: Type.String(),
  }),
  async run(ctx, { perTurn, text, ...input }) {
    await ctx.sleep(Math.max(0, input.beginAt - Date.now()))
    for (let n = 0; ; ) {
      let logged = Promise.resolve()
      for (let sent = 0; sent < perTurn; sent += 1) logged = ctx.data('item', { n: (n += 1), text })
      await logged
      await ctx.sleep(0)
    }
  },
})

/** Fills its log at once, then sends `perTurn` events every `everyMs` (0: as fast as they go) for as long as it is let, or ends. */
const filling = defineTask({
  name: 'filling',
  input: Type.Object({
    count: Type.Integer({ minimum: 0 }),
    text: Type.String(),
    perTurn: Type.Integer({ minimum: 0 }),
    everyMs: Type.Integer({ minimum: 0 }),
  }),
  async run(ctx, { count, text, perTurn, everyMs }) {
    let n = 0
    while (n < count) await ctx.data('item', { n: (n += 1), text })
    if (perTurn === 0) return
    for (;;) {
      let logged = Promise.resolve()
      for (let sent = 0; sent < perTurn; sent += 1) {
        logged = ctx.data('item', { n: (n += 1), text, sentAtMs: sharedNowMs() })
      }
      await logged
      await ctx.sleep(everyMs)
    }
  },
})

export const loadTasks = [ticking, bursting, filling]
