import { once } from 'node:events'
import { expect, test } from 'vitest'
import { startFakeServer } from './FakeServer.ts'
import { CLIENT, eventually, expectExit, spawnClient, spawnProgram } from './spawnClient.ts'

const COMMAND = ['--task', 'command', '--input', '{"command":"make test"}']

test('the file itself runs from any folder and prints the text of the agent', async () => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.output('reasoning', 'hm')
    job.output('text', 'Hello ')
    job.output('text', 'wörld\n')
    job.succeed({ steps: 1 })
  }
  const client = spawnProgram(CLIENT, ['--stream', 'say hello', '--server', server.url, '--token', 't'], { cwd: '/' })
  await expectExit(client, 0)
  expect(client.out()).toBe('Hello wörld\n')
  expect(client.err()).toBe('')
  expect(server.job.spec).toEqual({ task: 'agent', input: { prompt: 'say hello' }, jobId: server.job.id })
  expect(server.seen[0]?.headers.authorization).toBe('Bearer t')
})

test('streaming is the default, and - reads the prompt from standard input', async () => {
  const server = await startFakeServer()
  server.play = (job) => job.succeed(null)
  const client = spawnClient(['-'], { server: server.url, stdin: 'two\nlines\n' })
  await expectExit(client, 0)
  expect(server.job.spec['input']).toEqual({ prompt: 'two\nlines\n' })
})

test('after --stream a word is a prompt, also where it is the name of a command', async () => {
  const server = await startFakeServer()
  server.play = (job) => job.succeed(null)
  await expectExit(spawnClient(['--stream', 'list'], { server: server.url }), 0)
  expect(server.job.spec['input']).toEqual({ prompt: 'list' })
})

test('stdout has what the job said on stdout, byte for byte, and stderr the rest', async () => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.output('stdout', '\x1b]0;raw\x07 kept\r')
    job.output('stderr', 'warning\n')
    job.fail({ code: 'TETHER_COMMAND_FAILED', message: 'exit code 3', retryable: false, exitCode: 3 })
  }
  const client = spawnClient(COMMAND, { server: server.url })
  await expectExit(client, 1)
  expect(client.out()).toBe('\x1b]0;raw\x07 kept\r')
  expect(client.err()).toBe('warning\nfailed: exit code 3 (TETHER_COMMAND_FAILED)\n')
  expect(server.job.spec).toMatchObject({ task: 'command', input: { command: 'make test' } })
})

test('--json prints one event a line, unknown ones too', async () => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.send('weather', { value: 'rain\n\x9b' })
    job.succeed(1)
  }
  const client = spawnClient([...COMMAND, '--json'], { server: server.url })
  await expectExit(client, 0)
  const lines = client.out().trimEnd().split('\n')
  expect(lines.map((line) => JSON.parse(line).type)).toEqual(['job.queued', 'job.started', 'weather', 'job.succeeded'])
  expect(JSON.parse(lines[2] ?? '')).toMatchObject({ seq: 3, value: 'rain\n\x9b' })
})

test.each([
  ['text as it is', 'forty-two', 'forty-two\n'],
  ['anything else as JSON', { answer: 42 }, '{"answer":42}\n'],
])('--quiet prints only the result: %s', async (_, result, printed) => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.output('text', 'noise')
    job.output('stderr', 'noise')
    job.succeed(result)
  }
  const client = spawnClient([...COMMAND, '--quiet'], { server: server.url })
  await expectExit(client, 0)
  expect([client.out(), client.err()]).toEqual([printed, ''])
})

test.each([
  ['timed_out', 1],
  ['abandoned', 1],
  ['interrupted', 1],
  ['cancelled', 130],
  ['stopped', 130],
] as const)('a job that ends %s makes the exit code %i', async (status, code) => {
  const server = await startFakeServer()
  server.play = (job) => job.end(status, { failure: { code: 'X', message: 'why', retryable: false } })
  const client = spawnClient(COMMAND, { server: server.url })
  await expectExit(client, code)
  expect(client.err()).toBe(`${status.replace('_', ' ')}: why (X)\n`)
})

test('a large output comes through whole to a reader that is slow to begin', async () => {
  const server = await startFakeServer()
  const text = `${'x'.repeat(60_000)}\n`
  server.play = (job) => {
    for (let part = 0; part < 50; part += 1) job.output('stdout', text)
    job.succeed(null)
  }
  const client = spawnClient(COMMAND, { server: server.url, readStdout: false })
  await eventually(() => expect(server.jobs.size).toBe(1))
  let length = 0
  client.child.stdout?.on('data', (chunk: Buffer) => (length += chunk.length))
  await expectExit(client, 0)
  await eventually(() => expect(length).toBe(50 * text.length))
})

test('a reader that goes away ends the client, and the server sees it leave', async () => {
  const server = await startFakeServer()
  const client = spawnClient(COMMAND, { server: server.url, readStdout: false })
  await eventually(() => expect(server.jobs.size).toBe(1))
  server.job.output('stdout', 'first\n')
  const { stdout } = client.child
  if (stdout === null) throw new Error('the client has no stdout')
  await once(stdout, 'readable')
  stdout.destroy()
  await once(stdout, 'close')
  server.job.output('stdout', 'second\n')
  await expectExit(client, 130)
  await eventually(() => expect(server.job.disconnects).toBe(1))
  expect(client.err()).toBe('')
})

test('a reader that goes away ends a list as well', async () => {
  const server = await startFakeServer()
  const client = spawnProgram('sh', ['-c', `"$0" "$1" list --json | true`, process.execPath, CLIENT], {
    server: server.url,
  })
  await expectExit(client, 0)
  expect(client.err()).toBe('')
})

test('a server that dies in the middle and stays away is exit code 1, with the way to find out more', async () => {
  const server = await startFakeServer()
  const client = spawnClient(COMMAND, { server: server.url })
  await eventually(() => expect(server.jobs.size).toBe(1))
  server.job.output('stdout', 'so far\n')
  await eventually(() => expect(client.out()).toBe('so far\n'))
  const diedAtMs = performance.now()
  await server.close()
  await expectExit(client, 1)
  expect(performance.now() - diedAtMs).toBeGreaterThan(9900)
  expect(client.err()).toContain('tether: the connection was lost')
  expect(client.err()).toContain(`show ${server.job.id}`)
})

test('no server is exit code 69', async () => {
  const server = await startFakeServer()
  server.intercept = (_, response) => {
    response.writeHead(200).end('hello')
    return true
  }
  await expectExit(spawnClient(COMMAND, { server: server.url }), 69)
  await expectExit(spawnClient(['say hello', '--server', 'http://127.0.0.1:9']), 69)
})

test('a refusal is exit code 1, and 2 where the command line was wrong', async () => {
  const server = await startFakeServer()
  server.token = 'secret'
  const unauthorized = spawnClient(COMMAND, { server: server.url })
  await expectExit(unauthorized, 1)
  expect(unauthorized.err()).toBe('tether: refused: the token is missing or wrong (TETHER_UNAUTHORIZED)\n')
  server.tasks = ['ticks']
  const unknown = spawnClient(COMMAND, { server: server.url, env: { TETHER_TOKEN: 'secret' } })
  await expectExit(unknown, 2)
  expect(unknown.err()).toContain('this server has no task "command"; it has ticks')
})

test('a server without the task agent is named in one line, with what can be done instead', async () => {
  const server = await startFakeServer()
  server.tasks = ['command', 'ticks']
  const client = spawnClient(['--stream', 'say hello'], { server: server.url })
  await expectExit(client, 2)
  expect(client.err()).toMatch(
    /^tether: this server has no task "agent"; it has command, ticks .*--task command --input .*\n$/,
  )
  expect(client.out()).toBe('')
})

test('wrong usage is exit code 2 and one line that says what was wrong', async () => {
  const client = spawnClient(['two', 'words'])
  await expectExit(client, 2)
  expect(client.err()).toBe('tether: a prompt is one argument, got 2: put it in quotes (--help says more)\n')
  await expectExit(spawnClient(['--server', 'localhost:3000', 'list']), 2)
})

test('--help goes to stdout and names the exit codes', async () => {
  const client = spawnClient(['--help'])
  await expectExit(client, 0)
  expect(client.out()).toMatch(/69 {3}no server there/)
})
