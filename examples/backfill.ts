import { defineTask, Type } from '../src/execution/task.ts'

/**
 * Long work that is stopped and taken up again: how far it got is kept in `ctx.store`, between items, where a stop is met. After a
 * stop, a cancel or a crash, the next run goes on from there.
 */
export const backfill = defineTask({
  name: 'backfill',
  description: 'Works through numbered items, and goes on where the run before it ended.',
  input: Type.Object(
    {
      name: Type.String({ minLength: 1, maxLength: 100 }),
      items: Type.Integer({ minimum: 0 }),
      itemMs: Type.Integer({ minimum: 0 }),
    },
    { additionalProperties: false },
  ),
  concurrencyLimit: 1,
  async run(ctx, { name, items, itemMs }) {
    const kept = await ctx.store.get(name)
    const first = typeof kept === 'number' ? kept : 0
    for (let item = first; item < items; item += 1) {
      await ctx.sleep(itemMs)
      await ctx.store.put(name, item + 1)
      await ctx.progress(item + 1, { total: items })
    }
    await ctx.store.delete(name)
    return { from: first, to: items }
  },
})
