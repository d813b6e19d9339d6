import { expect, test } from 'vitest'
import { TetherClient } from '../../src/client/TetherClient.ts'
import { type FakeServer, startFakeServer } from './FakeServer.ts'
import { eventually, expectExit, spawnClient } from './spawnClient.ts'

async function serverWithJob(): Promise<FakeServer> {
  const server = await startFakeServer()
  await using client = new TetherClient({ server: server.url })
  await client.start({ task: 'command', input: { command: 'date' }, jobId: 'job_background' })
  return server
}

test('list prints a row for each job, or with --json the job', async () => {
  const server = await serverWithJob()
  const rows = spawnClient(['list'], { server: server.url })
  await expectExit(rows, 0)
  expect(rows.out()).toMatch(/^job_background {2}running {6}2026-\S+ {2}command\n$/)
  const lines = spawnClient(['list', '--json'], { server: server.url })
  await expectExit(lines, 0)
  expect(JSON.parse(lines.out())).toMatchObject({ id: 'job_background' })
})

test('show prints the job, or with --quiet its result', async () => {
  const server = await serverWithJob()
  server.job.succeed('done')
  const whole = spawnClient(['show', 'job_background'], { server: server.url })
  await expectExit(whole, 0)
  expect(JSON.parse(whole.out())).toMatchObject({ status: 'succeeded', result: 'done' })
  const quiet = spawnClient(['show', 'job_background', '--quiet'], { server: server.url })
  await expectExit(quiet, 0)
  expect(quiet.out()).toBe('done\n')
})

test('show of a job that is not there is a refusal', async () => {
  const server = await startFakeServer()
  const client = spawnClient(['show', 'job_nowhere'], { server: server.url })
  await expectExit(client, 1)
  expect(client.err()).toBe('tether: refused: there is no job job_nowhere (TETHER_JOB_NOT_FOUND)\n')
})

test('attach prints what the job said and says, and ends with its outcome', async () => {
  const server = await serverWithJob()
  server.job.output('stdout', 'before\n')
  const client = spawnClient(['attach', 'job_background'], { server: server.url })
  await eventually(() => expect(client.out()).toBe('before\n'))
  server.job.output('stdout', 'after\n')
  server.job.succeed(null)
  await expectExit(client, 0)
  expect(client.out()).toBe('before\nafter\n')
  expect(server.requestsTo('GET', /events$/)[0]?.query.get('hold')).toBeNull()
})

test('cancel and stop print the receipt', async () => {
  const server = await serverWithJob()
  const client = spawnClient(['stop', 'job_background'], { server: server.url })
  await expectExit(client, 0)
  expect(client.out()).toBe('stopped: 13 processes gone, confirmed in 2.4 ms (pidns)\n')
})

test('a cancel of a job that has ended is a refusal', async () => {
  const server = await serverWithJob()
  server.job.succeed(null)
  const client = spawnClient(['cancel', 'job_background'], { server: server.url })
  await expectExit(client, 1)
  expect(client.err()).toContain('job job_background has ended: succeeded (TETHER_JOB_FINISHED)')
})

test('tasks prints the names of what can be run', async () => {
  const server = await startFakeServer()
  const client = spawnClient(['tasks'], { server: server.url })
  await expectExit(client, 0)
  expect(client.out()).toBe('agent\ncommand\nticks\n')
})
