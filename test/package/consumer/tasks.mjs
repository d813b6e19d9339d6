import { defineTask, Type } from 'tether'

export const greet = defineTask({
  name: 'greet',
  input: Type.Object({ name: Type.String() }, { additionalProperties: false }),
  async run(ctx, { name }) {
    await ctx.output(`hello ${name}`)
    return { greeted: name }
  },
})

export const apart = defineTask({
  name: 'apart',
  input: Type.Object({}, { additionalProperties: false }),
  isolate: 'process',
  module: import.meta.url,
  async run() {
    return { pid: process.pid }
  },
})
