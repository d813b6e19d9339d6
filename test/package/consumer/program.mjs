import { fastify } from 'fastify'
import { tether } from 'tether'
import { JobEnded, TetherClient } from 'tether/client'
import * as tasks from './tasks.mjs'

const app = fastify()
const [dataDir, redisUrl] = process.argv.slice(2)
app.register(tether, {
  prefix: '/tether',
  tasks: Object.values(tasks),
  settings: { DATA_DIR: dataDir, CONTAINMENT: 'group', REDIS_URL: redisUrl },
})
const url = await app.listen({ host: '127.0.0.1', port: 0 })
const client = new TetherClient({ server: `${url}/tether` })

const said = []
const run = client.run({ task: 'greet', input: { name: 'world' } })
for await (const event of run) if (event.type === 'output') said.push(event.text)
const isolated = await client.run({ task: 'apart', input: {} }).result
const command = client.run({ task: 'command', input: { command: 'echo from a shell' } })
for await (const event of command) if (event.type === 'output') said.push(event.text)
const abort = new AbortController()
const ended = await client
  .run(
    { task: 'command', input: { command: 'sleep 60' } },
    { signal: AbortSignal.any([abort.signal, AbortSignal.timeout(200)]) },
  )
  .result.catch((error) => error)
await client.close()
await app.close()
console.log(
  JSON.stringify({
    node: process.version,
    said,
    result: await run.result,
    isApart: isolated.pid !== process.pid,
    ended: ended instanceof JobEnded && ended.event.type,
  }),
)
