import Type from 'typebox'
import { defineTask } from '../execution/task.ts'
import { MAX_DELAY_MS } from '../job/policy.ts'

const MAX_TICK_BYTES = 16 * 1024

/** The example, and what load tests use: in-process and cheap. Line N is `tick N`, padded with dots to `bytes`. */
export const ticks = defineTask({
  name: 'ticks',
  description: 'Sends `count` lines, one every `intervalMs`: the example task.',
  input: Type.Object(
    {
      count: Type.Integer({ minimum: 0, maximum: MAX_DELAY_MS, description: 'How many lines.' }),
      intervalMs: Type.Integer({ minimum: 0, maximum: MAX_DELAY_MS, description: 'Milliseconds before each line.' }),
      bytes: Type.Optional(
        Type.Integer({ minimum: 0, maximum: MAX_TICK_BYTES, description: 'Length to which a line is padded.' }),
      ),
    },
    { additionalProperties: false },
  ),
  async run(ctx, { count, intervalMs, bytes = 0 }) {
    for (let n = 1; n <= count; n += 1) {
      // Zero waits for nothing, but a loop that never lets go of the process could not be cancelled.
      if (intervalMs > 0 || n % 64 === 0) await ctx.sleep(intervalMs)
      else ctx.checkpoint()
      await ctx.output(`${`tick ${n}`.padEnd(bytes, '.')}\n`)
    }
    return { ticks: count }
  },
})
