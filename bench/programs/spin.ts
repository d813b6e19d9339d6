import Type from 'typebox'
import { defineTask } from '../../src/execution/task.ts'

/** Never lets go of its process: nothing but a kill ends it. */
export const spin = defineTask({
  name: 'spin',
  isolate: 'process',
  module: import.meta.url,
  input: Type.Object({}, { additionalProperties: false }),
  async run(ctx) {
    await ctx.output('up')
    for (;;);
  },
})
