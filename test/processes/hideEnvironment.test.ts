import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { spawnServer, startJob } from '../jobs/serverProcess.ts'
import { ask, jobOf } from '../server/requests.ts'
import { eventually, temporaryFolder } from '../world.ts'

const SECRETS = {
  API_TOKEN: 'token-that-nobody-reads-0123456789',
  OPENAI_API_KEY: 'sk-that-nobody-reads',
  OPENAI_BASE_URL: 'http://127.0.0.1:9/v1',
  AWS_SECRET_ACCESS_KEY: 'aws-that-nobody-reads-=\n-with-lines',
  EMPTY: '',
}

test('what the kernel shows of a server has no secret of it, and what the server knows is as before', async () => {
  const server = spawnServer({ ...SECRETS, DATA_DIR: await temporaryFolder(), TZ: 'Europe/Vienna' })
  const url = await server.url()
  const shown = readFileSync(`/proc/${server.child.pid}/environ`, 'utf8')
  expect(shown).toContain('TZ=Europe/Vienna\0')
  expect(shown).toContain('API_TOKEN=\0')
  for (const value of Object.values(SECRETS)) if (value !== '') expect(shown).not.toContain(value)
  expect(server.out()).not.toContain('can read the environment')
  // The token is the one that it was started with.
  expect((await ask(url, '/jobs')).status).toBe(401)
  const headers = { authorization: `Bearer ${SECRETS.API_TOKEN}` }
  expect((await ask(url, '/jobs', { headers })).status).toBe(200)
})

test('a command that looks through every process finds no secret of the server', async () => {
  const { API_TOKEN: _, ...secrets } = SECRETS
  const server = spawnServer({ ...secrets, DATA_DIR: await temporaryFolder() })
  const url = await server.url()
  const command = `cat /proc/${server.child.pid}/environ /proc/$PPID/environ /proc/self/environ; echo looked`
  const id = await startJob(url, { task: 'command', input: { command } })
  await eventually('it has looked', async () => (await jobOf(url, id)).terminal)
  const log = await (await fetch(`${url}/jobs/${id}/events`)).text()
  expect(log).toContain('looked')
  expect(log).toContain('OPENAI_API_KEY=')
  expect(log).not.toContain('nobody-reads')
})
