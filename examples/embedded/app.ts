import process from 'node:process'
import { fastify } from 'fastify'
// In a program of your own: 'tether' and 'tether/client'.
import { TetherClient } from '../../src/client/node.ts'
import { defineTask, Type, tether } from '../../src/index.ts'

// An app of one's own with Tether below /tether: what takes long is a job there, and ends with the request that wants it.

const wordCount = defineTask({
  name: 'word-count',
  description: 'Counts the words of a text, in its own time.',
  input: Type.Object({ text: Type.String() }, { additionalProperties: false }),
  async run(ctx, { text }) {
    const words = text.split(/\s+/).filter((word) => word !== '')
    for (const [index] of words.entries()) {
      await ctx.sleep(20)
      await ctx.progress(index + 1, { total: words.length })
    }
    return { words: words.length }
  },
})

const app = fastify()

app.register(tether, {
  prefix: '/tether',
  tasks: [wordCount],
  // Nobody may run commands here.
  builtInTasks: [],
  settings: { DATA_DIR: process.env['DATA_DIR'] ?? 'data/embedded', DRAIN_MS: '5000' },
})

app.get<{ Querystring: { text?: string } }>('/count', async ({ query }, reply) => {
  const gone = new AbortController()
  reply.raw.once('close', () => gone.abort(new Error('whoever asked has left')))
  const run = client.run({ task: 'word-count', input: { text: query.text ?? '' } }, { signal: gone.signal })
  return await run.result
})

const url = await app.listen({ host: '127.0.0.1', port: Number(process.env['PORT'] ?? 3000) })
const client = new TetherClient({ server: `${url}/tether` })
process.stdout.write(`The app listens on ${url}, and Tether on ${url}/tether/\n`)

process.once('SIGTERM', () => {
  void app.close().then(() => client.close())
})
