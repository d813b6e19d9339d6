const { fastify } = require('fastify')
const { defineTask, tether, Type } = require('tether')
const { TetherClient } = require('tether/client')

async function main() {
  const greet = defineTask({
    name: 'greet',
    input: Type.Object({ name: Type.String() }, { additionalProperties: false }),
    run: async (_ctx, { name }) => `hello ${name}`,
  })
  const app = fastify()
  app.register(tether, {
    prefix: '/tether',
    tasks: [greet],
    settings: { DATA_DIR: process.argv[2], CONTAINMENT: 'group' },
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const client = new TetherClient({ server: `${url}/tether` })
  const result = await client.run({ task: 'greet', input: { name: 'commonjs' } }).result
  await client.close()
  await app.close()
  console.log(JSON.stringify({ node: process.version, result }))
}

void main()
