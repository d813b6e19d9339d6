import { expect, test } from 'vitest'
import { type FakeJob, type FakeServer, RECEIPT, startFakeServer } from './FakeServer.ts'
import { eventually, expectExit, type SpawnedClient, spawnClient } from './spawnClient.ts'

// Child jobs as api-client.ts shows them (docs/protocol.md, section 7).

const AGENT = ['--stream', 'fix the tests']

interface Running {
  readonly server: FakeServer
  readonly client: SpawnedClient
  readonly job: FakeJob
}

async function running(...args: string[]): Promise<Running> {
  const server = await startFakeServer()
  server.play = (job) => job.begin()
  const client = spawnClient([...AGENT, ...args], { server: server.url })
  await eventually(() => expect(server.jobs.size).toBe(1))
  return { server, client, job: server.job }
}

/** A child that an observer is attached to. */
async function watched({ server, job }: Running, parent = job, prompt = 'look'): Promise<FakeJob> {
  const child = server.startChild(parent, 'agent', { prompt })
  await eventually(() => expect(child.readerCount).toBe(1))
  return child
}

function attaches(server: FakeServer): string[] {
  return server.requestsTo('GET', /events$/).map(({ path }) => path)
}

test('children and their children are shown under their labels, as they come', async () => {
  const run = await running()
  const { server, client, job } = run
  const docs = await watched(run, job, 'check the docs')
  const code = await watched(run, job, 'check the code')
  const files = await watched(run, code, 'count the files')
  const show = async (line: string): Promise<void> => {
    await eventually(() => expect(client.err()).toContain(`${line}\n`))
  }
  files.useTool('terminal', { command: 'ls | wc -l' }, { ms: 20 })
  await show('    [2.1] ✓ terminal  ls | wc -l  20 ms')
  docs.output('text', 'The docs ')
  docs.useTool('read_file', { path: 'README.md' }, { ok: false, summary: 'no such file' })
  await show('  [1] The docs')
  await show('  [1] ✗ read_file  README.md  no such file  0 ms')
  files.output('text', 'There are 12.')
  files.succeed({ text: 'There are 12.' })
  await show('    [2.1] There are 12.')
  await show('    [2.1] ✓ agent  count the files  20 ms')
  docs.send('artifact', { name: 'a', path: 'a.txt', mediaType: 'text/plain', bytes: 3, sha256: '' })
  await show('  [1] file a.txt (3 bytes)')
  server.finishChild(code, files)
  for (const child of [docs, code]) {
    child.succeed({ text: '' })
    server.finishChild(job, child)
  }
  job.output('text', 'Done.\n')
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.out()).toBe('Done.\n')
  expect(client.err()).toBe(
    [
      '  [1] ▸ agent  check the docs',
      '  [2] ▸ agent  check the code',
      '    [2.1] ▸ agent  count the files',
      '    [2.1] ✓ terminal  ls | wc -l  20 ms',
      '  [1] The docs',
      '  [1] ✗ read_file  README.md  no such file  0 ms',
      '    [2.1] There are 12.',
      '    [2.1] ✓ agent  count the files  20 ms',
      '  [1] file a.txt (3 bytes)',
      '  [1] ✓ agent  check the docs  0 ms',
      '  [2] ✓ agent  check the code  20 ms',
      '',
    ].join('\n'),
  )
  for (const { query } of server.requestsTo('GET', /events$/)) expect(query.get('hold')).toBeNull()
})

test('a child that a tool started has no line of its own for its success, and one for its failure', async () => {
  const run = await running()
  const { server, client, job } = run
  const calls = ['good', 'bad', 'late'].map((prompt) => job.startTool('sub_agent', { prompt }))
  const [good, bad, late] = [await watched(run), await watched(run), await watched(run)]
  good.succeed(null)
  bad.clockMs = 300
  bad.fail({ code: 'TETHER_MODEL_FAILED', message: 'no\nmodel', retryable: false })
  late.end('timed_out', { failure: { code: 'X', message: 'late', retryable: false } })
  for (const child of [good, bad, late]) server.finishChild(job, child)
  for (const callId of calls) job.finishTool('sub_agent', callId)
  job.succeed(null)
  await expectExit(client, 0)
  const ends = client.err().split('\n').slice(3)
  expect(ends.slice(0, 2).toSorted()).toEqual([
    '  [2] ✗ agent  look  failed: no model (TETHER_MODEL_FAILED)  300 ms',
    '  [3] ✗ agent  look  timed out: late (X)  0 ms',
  ])
  expect(ends.slice(2, 5).map((line) => line.slice(0, 17))).toEqual([
    '✓ sub_agent  good',
    '✓ sub_agent  bad ',
    '✓ sub_agent  late',
  ])
})

test('what a child prints without tools, as a command does, goes under its label on stderr', async () => {
  const run = await running()
  const { server, client, job } = run
  const child = server.startChild(job, 'command', { command: 'make' })
  await eventually(() => expect(child.readerCount).toBe(1))
  child.output('stdout', '\x1b[31mcc\x1b[0m a.c\r\n')
  child.output('stderr', 'warn\x1b]0;own\x07ing\n')
  child.succeed(null)
  server.finishChild(job, child)
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.out()).toBe('')
  expect(client.err()).toBe('  [1] ▸ command  make\n  [1] cc a.c\n  [1] warning\n  [1] ✓ command  make  0 ms\n')
})

test('the reasoning of children is shown with --reasoning, and not without', async () => {
  for (const [args, shown] of [
    [['--reasoning'], '  [1] ┊ hm\n'],
    [[], ''],
  ] as const) {
    const run = await running(...args)
    const child = await watched(run)
    child.output('reasoning', 'hm')
    child.succeed(null)
    run.server.finishChild(run.job, child)
    run.job.succeed(null)
    await expectExit(run.client, 0)
    expect(run.client.err()).toBe(`  [1] ▸ agent  look\n${shown}  [1] ✓ agent  look  0 ms\n`)
  }
})

test('usage counts the children in, and says so', async () => {
  const run = await running()
  const { server, client, job } = run
  job.callModel({ inputTokens: 1000, outputTokens: 10 })
  const child = await watched(run)
  child.callModel({ inputTokens: 200, outputTokens: 3 })
  const grandchild = await watched(run, child)
  grandchild.callModel({ inputTokens: 30, outputTokens: 1 })
  grandchild.useTool('read_file', { path: 'a' })
  grandchild.succeed(null)
  server.finishChild(child, grandchild)
  child.succeed(null)
  server.finishChild(job, child)
  job.clockMs = 2000
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err()).toMatch(/\n3 model calls, 1,230 tokens in, 14 out, 1 tool, 2 sub-agents included, 2\.0 s\n$/)
})

test('children of other tasks are counted as child jobs', async () => {
  const { server, client, job } = await running()
  job.callModel()
  const child = server.startChild(job, 'resize', {})
  await eventually(() => expect(child.readerCount).toBe(1))
  child.succeed(null)
  server.finishChild(job, child)
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err()).toMatch(/\n1 model call, 1 child job included, 0 ms\n$/)
})

test('a child that had ended before anybody attached is shown whole, before what its parent says next', async () => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    const callId = job.startTool('sub_agent', { prompt: 'look' })
    const child = server.startChild(job, 'agent', { prompt: 'look' })
    for (let count = 1; count <= 3; count += 1) child.useTool('read_file', { path: `${count}` })
    child.succeed({ text: '' })
    server.finishChild(job, child)
    job.finishTool('sub_agent', callId)
    job.succeed(null)
  }
  const client = spawnClient(AGENT, { server: server.url })
  await expectExit(client, 0)
  expect(client.err()).toBe(
    [
      '  [1] ▸ agent  look',
      '  [1] ✓ read_file  1  0 ms',
      '  [1] ✓ read_file  2  0 ms',
      '  [1] ✓ read_file  3  0 ms',
      '✓ sub_agent  look  0 ms',
      '',
    ].join('\n'),
  )
})

test.each([
  ['', [], '  [1] ▸ agent  look\n  [1] … terminal  make  cancelled after 20 ms\n'],
  [' in JSON', ['--json', '--children'], ''],
])('a child whose stream is slow to open is shown whole before the outcome is said%s', async (_, args, rows) => {
  const { server, client, job } = await running(...args)
  const gate = Promise.withResolvers<void>()
  server.attachGate = gate.promise
  const child = server.startChild(job, 'agent', { prompt: 'look' })
  await eventually(() => expect(attaches(server)).toHaveLength(1))
  child.startTool('terminal', { command: 'make' })
  child.clockMs = 20
  child.end('cancelled', { cancellation: { cause: 'parent_cancelled' } })
  job.end('cancelled', {})
  // Nothing tells that the client has read it: it shall not, before the child is read.
  await new Promise((resolve) => setImmediate(resolve))
  gate.resolve()
  await expectExit(client, 130)
  expect(client.err()).toBe(`${rows}cancelled\n`)
  if (args.length > 0) expect(client.out().match(/"type":"job\.cancelled"/g)).toHaveLength(2)
})

test('a child whose stream is lost for good is named, and its open tool is settled', async () => {
  const run = await running()
  const { server, client, job } = run
  const child = await watched(run)
  child.startTool('terminal', { command: 'make' })
  child.output('text', 'ready\n')
  await eventually(() => expect(client.err()).toContain('ready'))
  server.intercept = (request, response) => {
    if (request.url?.includes(`${child.id}/events`) !== true) return false
    server.refuse(response, 403, 'TETHER_ORIGIN_REFUSED')
    return true
  }
  child.cut()
  await eventually(() => expect(client.err()).toContain('not shown'))
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err()).toMatch(
    /ready\n {2}\[1\] … terminal {2}make {2}lost after .*\n {2}\[1\] child job .* is not shown to its end \(refused .*\)\n$/,
  )
})

test('a child that is named again, as after a gap, is shown once', async () => {
  const run = await running()
  const { server, client, job } = run
  job.callModel()
  const child = await watched(run)
  job.send('child.started', { childId: child.id, task: 'agent' })
  child.succeed(null)
  server.finishChild(job, child)
  job.send('child.started', { childId: child.id, task: 'agent' })
  server.finishChild(job, child)
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err()).toMatch(
    /^ {2}\[1\] ▸ agent {2}look\n {2}\[1\] ✓ agent {2}look {2}0 ms\n1 model call, .* included, 0 ms\n$/,
  )
  expect(attaches(server)).toHaveLength(1)
})

test('a child that is gone is skipped, and not counted', async () => {
  const { server, client, job } = await running()
  job.callModel({ inputTokens: 1 })
  job.send('child.started', { childId: 'job_deleted', task: 'agent' })
  await eventually(() => expect(attaches(server)).toEqual(['/jobs/job_deleted/events']))
  job.send('child.finished', { childId: 'job_deleted', task: 'agent', status: 'succeeded' })
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err()).toBe('1 model call, 1 token in, 1 sub-agent (1 not counted), 0 ms\n')
})

test('a child whose stream is refused is named', async () => {
  const { server, client, job } = await running()
  server.intercept = (request, response) => {
    if (request.url?.endsWith('/events') !== true) return false
    server.refuse(response, 403, 'TETHER_ORIGIN_REFUSED')
    return true
  }
  const child = server.startChild(job, 'agent', {})
  await eventually(() => expect(attaches(server)).toHaveLength(1))
  child.succeed(null)
  server.finishChild(job, child)
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err()).toBe(
    `  [1] child job ${child.id} is not shown to its end (refused with TETHER_ORIGIN_REFUSED)\n`,
  )
})

test('the first attach to a child is tried again where the server does not take it for now', async () => {
  const { server, client, job } = await running()
  server.intercept = (request, response) => {
    if (request.url?.endsWith('/events') !== true || attaches(server).length > 2) return false
    if (attaches(server).length === 1) server.refuse(response, 503, 'TETHER_STORE_UNAVAILABLE', { 'retry-after': '0' })
    else response.destroy()
    return true
  }
  const child = await watched({ server, client, job })
  child.useTool('read_file', { path: 'a' })
  child.succeed(null)
  server.finishChild(job, child)
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err()).toBe('  [1] ▸ agent  look\n  [1] ✓ read_file  a  0 ms\n  [1] ✓ agent  look  0 ms\n')
})

test("a child's stream that is cut comes back without a word, and shows each line once", async () => {
  const run = await running()
  const { server, client, job } = run
  const child = await watched(run)
  child.useTool('read_file', { path: 'first' })
  const callId = child.startTool('terminal', { command: 'make' })
  child.output('text', 'half ')
  await eventually(() => expect(client.err()).toContain('first'))
  child.cut()
  child.output('text', 'a line\n')
  child.finishTool('terminal', callId)
  await eventually(() => expect(client.err()).toContain('✓ terminal'))
  child.succeed(null)
  server.finishChild(job, child)
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err()).toBe(
    [
      '  [1] ▸ agent  look',
      '  [1] ✓ read_file  first  0 ms',
      '  [1] half a line',
      '  [1] ✓ terminal  make  0 ms',
      '  [1] ✓ agent  look  0 ms',
      '',
    ].join('\n'),
  )
  expect(server.requestsTo('GET', /events$/).map(({ query }) => query.get('after') ?? '0')).toEqual(['0', '6'])
})

test('a child that does not end does not hold up the outcome, and its open tool is settled', async () => {
  const run = await running()
  const { client, job } = run
  job.callModel()
  const child = await watched(run)
  child.startTool('terminal', { command: 'sleep 100' })
  child.output('text', 'still here\n')
  await eventually(() => expect(client.err()).toContain('still here'))
  const endedAtMs = performance.now()
  job.succeed(null)
  await expectExit(client, 0)
  expect(performance.now() - endedAtMs).toBeLessThan(4000)
  const lines = client.err().trimEnd().split('\n')
  expect(lines.at(-2)).toMatch(/^ {2}\[1\] … terminal {2}sleep 100 {2}not finished after [0-9.]+ m?s$/)
  expect(lines.at(-1)).toBe('1 model call, 1 tool, 1 sub-agent (1 not counted), 0 ms')
})

test('many children that are said to have ended and have not cost a second together', async () => {
  const run = await running()
  const { server, client, job } = run
  const children = [await watched(run), await watched(run), await watched(run), await watched(run), await watched(run)]
  const endedAtMs = performance.now()
  for (const child of children) server.finishChild(job, child)
  job.succeed(null)
  await expectExit(client, 0)
  expect(performance.now() - endedAtMs).toBeLessThan(4000)
})

test('a cancel ends children with their parent: their tools are settled and their receipts are left to it', async () => {
  const run = await running()
  const { server, client, job } = run
  const child = await watched(run)
  child.startTool('terminal', { command: 'make' })
  child.output('text', 'ready\n')
  await eventually(() => expect(client.err()).toContain('ready'))
  server.onEnd = (asked, kind) => {
    const cancellation = { cause: 'parent_cancelled', reason: '', requestedAt: '', phase: 'tool:terminal' }
    child.clockMs = 700
    child.send('job.cancelling', { cancellation })
    child.end('cancelled', { cancellation })
    asked.committed(kind)
    asked.released(kind)
  }
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toBe(
    [
      '  [1] ▸ agent  look',
      '  [1] ready',
      `cancelling job ${job.id} (again: leave at once)`,
      '  [1] … terminal  make  cancelled after 700 ms',
      'cancelled: 13 processes gone, confirmed in 2.4 ms (pidns)',
      '',
    ].join('\n'),
  )
})

test('a cancel whose receipt knows the own calls only has the usage of the children before it', async () => {
  const run = await running()
  const { server, client, job } = run
  job.callModel({ inputTokens: 3 })
  const child = await watched(run)
  child.callModel({ inputTokens: 500 })
  child.output('text', 'ready\n')
  await eventually(() => expect(client.err()).toContain('ready'))
  server.onEnd = (asked, kind) => {
    child.end('cancelled', { cancellation: { cause: 'parent_cancelled' } })
    asked.released(kind, { ...RECEIPT, usage: { inputTokens: 3 } })
  }
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toMatch(
    /\n2 model calls, 503 tokens in, 1 sub-agent included, 0 ms\ncancelled: .*\(pidns\); 3 tokens in\n$/,
  )
})

test('twice Ctrl+C leaves at once with children open', async () => {
  const run = await running()
  const { server, client, job } = run
  const child = await watched(run)
  child.startTool('terminal', { command: 'make' })
  child.output('text', 'ready\n')
  await eventually(() => expect(client.err()).toContain('ready'))
  server.onEnd = (asked, kind) => asked.committed(kind)
  client.child.kill('SIGINT')
  await eventually(() => expect(job.status).toBe('cancelling'))
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toMatch(/\n {2}\[1\] … terminal {2}make {2}not finished after .*\nleft job .*\n$/)
  await eventually(() => expect(child.disconnects).toBe(1))
})

test('a look at a job shows its children too', async () => {
  const run = await running()
  const child = await watched(run)
  const looker = spawnClient(['attach', run.job.id], { server: run.server.url })
  await eventually(() => expect(child.readerCount).toBe(2))
  child.useTool('read_file', { path: 'a' })
  await eventually(() => expect(looker.err()).toBe('  [1] ▸ agent  look\n  [1] ✓ read_file  a  0 ms\n'))
})

test('64 children at once are shown, and nothing but they', async () => {
  const run = await running()
  const { server, client, job } = run
  const children = Array.from({ length: 64 }, (_, index) => server.startChild(job, 'agent', { prompt: `${index + 1}` }))
  await eventually(() => expect(children.filter((child) => child.readerCount === 1)).toHaveLength(64))
  for (const child of children) {
    child.output('text', `${'x'.repeat(5000)}\n`)
    child.succeed(null)
    server.finishChild(job, child)
  }
  job.succeed(null)
  await expectExit(client, 0)
  const lines = client.err().trimEnd().split('\n')
  expect(lines).toHaveLength(3 * 64)
  for (const line of lines) expect(line).toMatch(/^ {2}\[\d+\] (▸ agent {2}\d+|x{5000}|✓ agent {2}\d+ {2}0 ms)$/)
})

test('more children at once than there may be streams are named, and the run is shown', async () => {
  const run = await running()
  const { server, client, job } = run
  const children = Array.from({ length: 258 }, () => server.startChild(job, 'agent', {}))
  await eventually(() => expect(children.filter((child) => child.readerCount === 1)).toHaveLength(256))
  for (const child of children) {
    child.succeed(null)
    server.finishChild(job, child)
  }
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err().match(/is not shown to its end \(more than 256 child jobs are open\)/g)).toHaveLength(2)
  expect(attaches(server)).toHaveLength(256)
})

test('--json has the events of the job alone, and no connection is made for its children', async () => {
  const run = await running('--json')
  const { server, client, job } = run
  const child = server.startChild(job, 'agent', {})
  child.succeed(null)
  server.finishChild(job, child)
  job.succeed(null)
  await expectExit(client, 0)
  const seqs = client
    .out()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line).seq)
  expect(seqs).toEqual([1, 2, 3, 4, 5])
  expect(attaches(server)).toEqual([])
})

test('--json --children has the events of the children too, each once and in its order, before the outcome', async () => {
  const run = await running('--json', '--children')
  const { server, client, job } = run
  const child = await watched(run)
  const grandchild = await watched(run, child)
  grandchild.output('text', 'x\u202e')
  await eventually(() => expect(client.out()).toContain('\\u202e'))
  grandchild.cut()
  grandchild.useTool('read_file', { path: 'a' })
  grandchild.succeed(null)
  server.finishChild(child, grandchild)
  child.succeed(null)
  server.finishChild(job, child)
  job.succeed(null)
  await expectExit(client, 0)
  const events = client
    .out()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  for (const one of [job, child, grandchild]) {
    const seqs = events.filter(({ jobId }) => jobId === one.id).map(({ seq }) => seq)
    expect(seqs).toEqual(Array.from({ length: one.view().lastSeq }, (_, index) => index + 1))
  }
  expect(events.at(-1)).toMatchObject({ jobId: job.id, type: 'job.succeeded' })
  expect(client.err()).toBe('')
})

test('--json --children names a child whose events are missing', async () => {
  const run = await running('--json', '--children')
  const { server, client, job } = run
  job.send('child.started', { childId: 'job_deleted', task: 'agent' })
  await eventually(() => expect(attaches(server)).toHaveLength(1))
  const child = await watched(run)
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err()).toBe(
    `child job job_deleted is not shown to its end (there is no job job_deleted)\nchild job ${child.id} is not shown to its end\n`,
  )
})

test('--quiet makes no connection for children', async () => {
  const run = await running('--quiet')
  const { server, client, job } = run
  const child = server.startChild(job, 'agent', {})
  child.succeed(null)
  server.finishChild(job, child)
  job.succeed({ text: 'the text' })
  await expectExit(client, 0)
  expect([client.out(), client.err()]).toEqual(['the text\n', ''])
  expect(attaches(server)).toEqual([])
})
