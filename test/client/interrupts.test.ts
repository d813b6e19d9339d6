import { expect, test } from 'vitest'
import { TetherClient } from '../../src/client/TetherClient.ts'
import { type FakeServer, nothingIsTaken, startFakeServer } from './FakeServer.ts'
import { eventually, expectExit, type SpawnedClient, spawnClient } from './spawnClient.ts'

const COMMAND = ['--task', 'command', '--input', '{"command":"make test"}']

/** A client whose job runs and has said something that the client has printed. */
async function running(...args: string[]): Promise<{ server: FakeServer; client: SpawnedClient }> {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.output('stdout', 'working\n')
  }
  const client = spawnClient([...COMMAND, ...args], { server: server.url })
  await eventually(() => expect(client.out()).toBe('working\n'))
  return { server, client }
}

test.each(['SIGINT', 'SIGTERM'] as const)(
  '%s once cancels, waits for the outcome and prints the receipt',
  async (signal) => {
    const { server, client } = await running()
    server.onEnd = (job, kind) => {
      job.committed(kind)
      setImmediate(() => job.released(kind))
    }
    client.child.kill(signal)
    await expectExit(client, 130)
    expect(client.err()).toBe(
      `cancelling job ${server.job.id} (again: leave at once)\ncancelled: 13 processes gone, confirmed in 2.4 ms (pidns)\n`,
    )
    expect(server.requestsTo('POST', /cancel$/)).toMatchObject([
      { path: `/jobs/${server.job.id}/cancel`, body: { reason: expect.any(String), ifUnknown: 'remember' } },
    ])
    expect(server.job.disconnects).toBe(0)
  },
)

test('twice leaves at once, though the cancel has no outcome, and the server sees it', async () => {
  const { server, client } = await running()
  server.onEnd = (job, kind) => job.committed(kind)
  client.child.kill('SIGINT')
  await eventually(() => expect(server.job.status).toBe('cancelling'))
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  await eventually(() => expect(server.job.disconnects).toBe(1))
  expect(client.err()).toContain(`left job ${server.job.id}\n`)
})

test('two key presses right after each other are two', async () => {
  const { server, client } = await running()
  server.onEnd = (job, kind) => job.committed(kind)
  client.child.kill('SIGINT')
  await eventually(() => expect(client.err()).toContain('cancelling'))
  const pressedAt = performance.now()
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(performance.now() - pressedAt).toBeLessThan(2000)
  await eventually(() => expect(server.job.disconnects).toBe(1))
})

test('a Ctrl+C before the server answered is remembered there and ends the job that starts later', async () => {
  const server = await startFakeServer()
  const gate = Promise.withResolvers<void>()
  server.gate = gate.promise
  const client = spawnClient(COMMAND, { server: server.url })
  await eventually(() => expect(server.requestsTo('POST', /execute/)).toHaveLength(1))
  client.child.kill('SIGINT')
  await eventually(() => expect(server.requestsTo('POST', /cancel$/)).toHaveLength(1))
  gate.resolve()
  await expectExit(client, 130)
  expect(client.err()).toContain('cancelled: nothing was held, confirmed in 2.4 ms (pidns)\n')
  expect(server.requestsTo('POST', /cancel$/)[0]?.path).toContain(server.job.id)
})

test('a job that succeeds before the cancel arrives has succeeded', async () => {
  const { server, client } = await running()
  server.intercept = (request) => {
    if (request.url?.includes('/cancel') === true) server.job.succeed(null)
    return false
  }
  client.child.kill('SIGINT')
  await expectExit(client, 0)
})

test('a cancel that is refused for good becomes a leaving, which the server sees', async () => {
  const { server, client } = await running()
  server.intercept = (request, response) => {
    if (request.url?.includes('/cancel') !== true) return false
    server.refuse(response, 401, 'TETHER_UNAUTHORIZED')
    return true
  }
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toContain('refused with TETHER_UNAUTHORIZED; left it instead\n')
  await eventually(() => expect(server.job.disconnects).toBe(1))
})

test('a cancel that is refused for now is sent again', async () => {
  const { server, client } = await running()
  server.intercept = (request, response) => {
    if (request.url?.includes('/cancel') !== true || server.requestsTo('POST', /cancel$/).length > 2) return false
    server.refuse(response, 503, 'TETHER_TOMBSTONES_FULL', { 'retry-after': '0' })
    return true
  }
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toContain('\ncancelled: 13 processes gone')
  expect(server.requestsTo('POST', /cancel$/)).toHaveLength(3)
})

test('an outcome that does not come is waited for settleMs and 3 s, no longer', async () => {
  const server = await startFakeServer()
  server.play = (job) => job.begin()
  server.intercept = (request) => request.url?.includes('/cancel') === true
  const client = spawnClient([...COMMAND], { server: server.url })
  await eventually(() => expect(server.job.status).toBe('running'))
  server.job.output('stdout', 'ready')
  await eventually(() => expect(client.out()).toBe('ready'))
  const pressedAt = performance.now()
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(performance.now() - pressedAt).toBeGreaterThanOrEqual(4990)
  expect(client.err()).toContain('within 5000 ms')
}, 20_000)

test('--on-interrupt stop makes the first a stop', async () => {
  const { server, client } = await running('--on-interrupt', 'stop')
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toContain('\nstopped: 13 processes gone, confirmed in 2.4 ms (pidns)\n')
  expect(server.requestsTo('POST', /cancel$/)).toEqual([])
})

test('--on-interrupt detach lets the job run on and says how to see it again', async () => {
  const { server, client } = await running('--on-interrupt', 'detach')
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(server.job.policy.onDisconnect).toBe('continue')
  expect(server.job.status).toBe('running')
  expect(client.err()).toBe(`detached: job ${server.job.id} runs on; "attach ${server.job.id}" shows it again\n`)
})

test('a detach before the server answered waits for the job to be there', async () => {
  const server = await startFakeServer()
  const gate = Promise.withResolvers<void>()
  server.gate = gate.promise
  const client = spawnClient([...COMMAND, '--on-interrupt', 'detach'], { server: server.url })
  await eventually(() => expect(server.requestsTo('POST', /execute/)).toHaveLength(1))
  client.child.kill('SIGINT')
  gate.resolve()
  await expectExit(client, 130)
  expect(server.job.policy.onDisconnect).toBe('continue')
})

test('while nobody takes what the client writes it does not read on, and hears Ctrl+C', async () => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    for (let part = 0; part < 400; part += 1) job.output('stdout', 'x'.repeat(50_000))
  }
  const client = spawnClient(COMMAND, { server: server.url, readStdout: false })
  await eventually(() => expect(server.jobs.size).toBe(1))
  await nothingIsTaken(server.job)
  client.child.kill('SIGINT')
  await eventually(() => expect(server.job.status).toBe('cancelled'))
  client.child.kill('SIGINT')
  await expectExit(client, 130)
})

test('somebody who only looks leaves with the first Ctrl+C, and the job is not touched', async () => {
  const server = await startFakeServer()
  await using starter = new TetherClient({ server: server.url })
  await starter.start({ task: 'ticks', input: {}, jobId: 'job_background' })
  server.job.output('text', 'seen')
  const client = spawnClient(['attach', 'job_background'], { server: server.url })
  await eventually(() => expect(client.out()).toBe('seen'))
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(server.job.status).toBe('running')
})

test('somebody who holds a job by attaching cancels it with Ctrl+C', async () => {
  const server = await startFakeServer()
  await using starter = new TetherClient({ server: server.url })
  await starter.start({ task: 'ticks', input: {}, jobId: 'job_background' })
  server.job.output('text', 'seen')
  const client = spawnClient(['attach', 'job_background', '--hold'], { server: server.url })
  await eventually(() => expect(client.out()).toBe('seen'))
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(server.job.status).toBe('cancelled')
})
