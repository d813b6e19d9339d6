import { expect, test } from 'vitest'
import { type FakeJob, type FakeServer, RECEIPT, startFakeServer } from './FakeServer.ts'
import { CLIENT, eventually, expectExit, type SpawnedClient, spawnClient, spawnProgram } from './spawnClient.ts'

// What api-client.ts shows of an agent's run where nothing is a terminal (docs/protocol.md, section 7).

const AGENT = ['--stream', 'fix the tests']

/** The output of a client whose job does what `play` says, to its end. */
async function played(
  play: (job: FakeJob, server: FakeServer) => void,
  { args = AGENT, code = 0 }: { args?: readonly string[]; code?: number } = {},
): Promise<{ out: string; err: string }> {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    play(job, server)
  }
  const client = spawnClient(args, { server: server.url })
  await expectExit(client, code)
  return { out: client.out(), err: client.err() }
}

/** A client whose job has said that it works. */
async function running(...args: string[]): Promise<{ server: FakeServer; client: SpawnedClient; job: FakeJob }> {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.output('text', 'working\n')
  }
  const client = spawnClient([...AGENT, ...args], { server: server.url })
  await eventually(() => expect(client.out()).toBe('working\n'))
  return { server, client, job: server.job }
}

test('each tool is one line with what it did, how it ended and how long that took; stdout has the text alone', async () => {
  const { out, err } = await played((job) => {
    job.output('text', 'I look ')
    job.output('text', 'first.\n')
    job.useTool('list_files', { path: 'test' }, { ms: 4, summary: '12 files' })
    const callId = job.startTool('terminal', { command: 'npm  test\n --silent' })
    job.output('stdout', 'ok 1\n')
    job.output('stderr', 'a warning\n')
    job.clockMs += 1234
    job.finishTool('terminal', callId, { summary: 'exit code 0' })
    job.useTool(
      'write_file',
      { path: 'src/app.js', text: 'x' },
      { ms: 3, ok: false, summary: 'path leaves the workspace' },
    )
    job.useTool('terminal', { command: 'serve', background: true }, { ms: 125_000 })
    job.useTool('search_files', { path: 'src', pattern: 'TODO' }, { ms: 3_725_000 })
    job.output('text', 'Done.')
    job.succeed({ text: 'Done.' })
  })
  expect(out).toBe('I look first.\nDone.')
  expect(err).toBe(
    [
      '✓ list_files  test  4 ms',
      '✓ terminal  npm test --silent  1.2 s',
      '✗ write_file  src/app.js  path leaves the workspace  3 ms',
      '✓ terminal  serve &  2 min 5 s',
      '✓ search_files  TODO  1 h 2 min',
      '',
    ].join('\n'),
  )
})

test('what a tool prints never gets to stdout, also after it has ended', async () => {
  const { out, err } = await played((job) => {
    job.useTool('terminal', { command: 'serve', background: true })
    job.output('stdout', 'listening\n')
    job.output('text', 'It serves.\n')
    job.succeed(null)
  })
  expect(out).toBe('It serves.\n')
  expect(err).toBe('✓ terminal  serve &  0 ms\n')
})

test('a tool that takes long is announced, and one that does not is not', async () => {
  const { server, client, job } = await running()
  const verbose = spawnClient(['attach', job.id, '--verbose'], { server: server.url })
  await eventually(() => expect(verbose.out()).toBe('working\n'))
  job.useTool('read_file', { path: 'a' })
  const callId = job.startTool('terminal', { command: 'npm test' })
  await eventually(() => expect(client.err()).toContain('▸ terminal  npm test\n'))
  job.clockMs = 2500
  job.finishTool('terminal', callId)
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err()).toBe('✓ read_file  a  0 ms\n▸ terminal  npm test\n✓ terminal  npm test  2.5 s\n')
  // Where every tool is announced, none is twice.
  await expectExit(verbose, 0)
  expect(verbose.err().match(/▸ terminal/g)).toHaveLength(1)
})

test('--verbose shows what tools print as it comes, and what each came to', async () => {
  const { out, err } = await played(
    (job) => {
      const callId = job.startTool('terminal', { command: 'make' })
      job.output('stdout', '\x1b[32mcc\x1b[0m -c a.c\n10%\r20%\r')
      job.output('stderr', 'warn')
      job.output('stdout', '100%\r\n\tindented\nno end')
      job.output('stderr', 'ing\n')
      job.finishTool('terminal', callId, { summary: 'exit code 0' })
      job.output('stderr', 'from the background\n')
      job.succeed(null)
    },
    { args: [...AGENT, '--verbose'] },
  )
  expect(out).toBe('')
  expect(err).toBe(
    [
      '▸ terminal  make',
      '  │ cc -c a.c',
      '  │ 100%',
      '  │     indented',
      '  │ warning',
      '  │ no end',
      '✓ terminal  make  exit code 0  0 ms',
      '  │ from the background',
      '',
    ].join('\n'),
  )
})

test('reasoning is shown with --reasoning, on stderr, line by line', async () => {
  const play = (job: FakeJob): void => {
    job.output('reasoning', 'First I think')
    job.output('reasoning', ',\nthen I \x1b]0;own\x07say')
    job.output('text', 'Hello.')
    job.output('reasoning', 'and think')
    job.succeed(null)
  }
  expect(await played(play)).toEqual({ out: 'Hello.', err: '' })
  expect(await played(play, { args: [...AGENT, '--reasoning'] })).toEqual({
    out: 'Hello.',
    err: '┊ First I think,\n┊ then I say\n┊ and think\n',
  })
})

test('a run that called a model ends with what it used', async () => {
  const { err } = await played((job) => {
    job.callModel({ inputTokens: 5345, outputTokens: 78, totalTokens: 5423 })
    job.useTool('read_file', { path: 'a' })
    job.callModel({ inputTokens: 7000, outputTokens: 600, totalTokens: 7600 })
    job.clockMs = 14_240
    job.succeed(null)
  })
  expect(err).toBe('✓ read_file  a  0 ms\n2 model calls, 12,345 tokens in, 678 out, 1 tool, 14.2 s\n')
})

test.each([
  ['no figures', [undefined], '1 model call, 0 ms\n'],
  ['figures of some calls', [{ inputTokens: 5 }, undefined], '2 model calls (1 without figures), 5 tokens in, 0 ms\n'],
  ['a sum alone', [{ totalTokens: 1_234_567 }], '1 model call, 1,234,567 tokens, 0 ms\n'],
  ['only what came out', [{ outputTokens: 7 }], '1 model call, 7 tokens out, 0 ms\n'],
])('usage with %s', async (_, usages, line) => {
  const { err } = await played((job) => {
    for (const usage of usages) job.callModel(usage)
    job.succeed(null)
  })
  expect(err).toBe(line)
})

test('a job that failed says what it used before it says why', async () => {
  const { err } = await played(
    (job) => {
      job.callModel({ inputTokens: 10, outputTokens: 2 })
      job.startTool('terminal', { command: 'make' })
      job.clockMs = 1000
      job.fail({ code: 'TETHER_MAX_STEPS', message: 'not done after 1 call', retryable: false })
    },
    { code: 1 },
  )
  expect(err).toBe(
    '… terminal  make  not finished after 1.0 s\n1 model call, 10 tokens in, 2 out, 1 tool, 1.0 s\n' +
      'failed: not done after 1 call (TETHER_MAX_STEPS)\n',
  )
})

test('a long line of the client stays one where nothing is a terminal', async () => {
  const message = 'a word '.repeat(100)
  const { err } = await played((job) => job.fail({ code: 'X', message, retryable: false }), { code: 1 })
  expect(err).toBe(`failed: ${message.trim()} (X)\n`)
})

test('a model that is asked again is said', async () => {
  const { err } = await played((job) => {
    job.send('data', {
      name: 'model.retry',
      value: { model: 'm', attempt: 1, waitMs: 1500, reason: 'too\nmany requests' },
    })
    job.send('data', { name: 'model.retry', value: null })
    job.send('data', { name: 'model.retry', value: { reason: 3 } })
    job.send('data', { name: 'other', value: { reason: 'x', waitMs: 1 } })
    job.succeed(null)
  })
  expect(err).toBe('too many requests; again in 1.5 s\n')
})

test('what a newer server may send is ignored, and the run is shown', async () => {
  const { out, err } = await played((job) => {
    job.send('tool.progress', { tool: 'terminal', callId: 'x', percent: 3 })
    job.output('images', 'not text')
    job.send('child.moved', { childId: 'job_elsewhere' })
    job.send('model.started', { model: 'm', temperature: 1 })
    job.send('model.finished', { model: 'm', usage: { cachedTokens: 7 }, extra: {} })
    job.useTool('teleport', { to: { x: 1 }, at: [2] })
    job.useTool('wait', [])
    job.useTool('nothing', {})
    job.output('text', 'Here.\n')
    job.succeed({ text: 'Here.' })
  })
  expect(out).toBe('Here.\n')
  expect(err).toBe(
    '✓ teleport  {"to":{"x":1},"at":[2]}  0 ms\n✓ wait  []  0 ms\n✓ nothing  0 ms\n1 model call, 3 tools, 0 ms\n',
  )
})

test('names, inputs and summaries of any kind stay in their line', async () => {
  const hostile = '\x1b[2J\x1b]0;own\x07\r\n✓ forged  line\x9b1A\u2028\u202egnp\u2066\u200b\ufeff\u{e0041}e\u0301'
  const { err } = await played((job) => {
    job.useTool(`terminal${hostile}`, { command: hostile }, { ok: false, summary: hostile })
    const callId = job.startTool('x'.repeat(65_000), { path: 'y'.repeat(65_000) })
    job.finishTool('x', callId, { ok: false, summary: '\u0301'.repeat(65_000) })
    job.useTool('t', { command: 'z' }, { ok: false, summary: 'w'.repeat(65_000) })
    job.succeed(null)
  })
  const lines = err.split('\n')
  expect(lines).toHaveLength(4)
  // oxlint-disable-next-line no-control-regex -- controls are what this is about
  expect(err.replaceAll('\n', '')).not.toMatch(/[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\u200b\ufeff]/)
  for (const line of lines) expect(line.length).toBeLessThan(210)
  expect(lines[0]).toMatch(/^✗ terminal \[2J \]0;own ✓ forged line 1A gnpe\u0301 /)
  expect(lines[0]).toMatch(/ {2}0 ms$/)
  expect(lines[2]).toMatch(/^✗ t {2}z {2}w+… {2}0 ms$/)
})

test('thousands of tools are shown one by one, and one that never finishes does not hold up the end', async () => {
  const { err } = await played((job) => {
    job.startTool('terminal', { command: 'sleep 1000000' })
    for (let count = 1; count <= 5000; count += 1) job.useTool('read_file', { path: `file ${count}` })
    job.succeed(null)
  })
  const lines = err.trimEnd().split('\n')
  expect(lines).toHaveLength(5001)
  expect(lines[4999]).toBe('✓ read_file  file 5000  0 ms')
  expect(lines[5000]).toBe('… terminal  sleep 1000000  not finished after 0 ms')
})

test('of many tools that were open at the end the first are named and the rest counted', async () => {
  const { err } = await played((job) => {
    for (let count = 1; count <= 100; count += 1) job.startTool('wait', { path: `${count}` })
    job.succeed(null)
  })
  const lines = err.trimEnd().split('\n')
  expect(lines).toHaveLength(21)
  expect(lines[19]).toBe('… wait  20  not finished after 0 ms')
  expect(lines[20]).toBe('… and 80 more not finished')
})

test('a tool whose start was cut from the log is named without what it did, and a start that is named twice ends the first', async () => {
  const { err } = await played((job) => {
    job.finishTool('terminal', 'call_lost', { ok: false, summary: 'exit code 1' })
    job.send('tool.started', { tool: 'one', callId: 'same', input: {} })
    job.clockMs = 5
    job.send('tool.started', { tool: 'two', callId: 'same', input: {} })
    job.finishTool('two', 'same')
    job.succeed(null)
  })
  expect(err).toBe('✗ terminal  exit code 1\n… one  not finished after 5 ms\n✓ two  0 ms\n')
})

test('an attempt that is started again leaves none of its tools open', async () => {
  const { err } = await played((job) => {
    job.startTool('terminal', { command: 'make' })
    job.clockMs = 20
    job.send('job.requeued', { attempt: 2, failure: { code: 'X', message: 'died', retryable: true } })
    job.send('job.started', { attempt: 2, replica: 'fake' })
    job.useTool('terminal', { command: 'make' }, { ms: 7 })
    job.callModel()
    job.succeed(null)
  })
  expect(err).toBe(
    [
      '… terminal  make  lost after 20 ms',
      'started again (attempt 2): what was printed so far does not count',
      '✓ terminal  make  7 ms',
      '1 model call, 2 tools, 27 ms',
      '',
    ].join('\n'),
  )
})

test('a stream that is cut in the middle of a tool and comes back has each line once', async () => {
  const { client, job } = await running()
  job.useTool('read_file', { path: 'a' })
  const callId = job.startTool('terminal', { command: 'make' })
  await eventually(() => expect(client.err()).toContain('read_file'))
  job.cut()
  await eventually(() => expect(client.err()).toContain('connected again'))
  job.finishTool('terminal', callId)
  job.succeed(null)
  await expectExit(client, 0)
  expect(client.err().match(/read_file {2}a/g)).toHaveLength(1)
  expect(client.err().match(/✓ terminal {2}make/g)).toHaveLength(1)
})

test('where stdout and stderr are one file, a line of the client never goes on a line of the text', async () => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.output('text', 'half a line')
    job.useTool('read_file', { path: 'a' })
    job.output('text', 'the end')
    job.callModel()
    job.succeed(null)
  }
  const inOne = '"$0" "$1" --stream x 2>&1'
  const client = spawnProgram('sh', ['-c', inOne, process.execPath, CLIENT], { server: server.url })
  await expectExit(client, 0)
  expect(client.out()).toBe('half a line\n✓ read_file  a  0 ms\nthe end\n1 model call, 1 tool, 0 ms\n')
})

test.each([
  ['of an agent prints its text', AGENT, { text: 'Hello.', steps: 2 }, 'Hello.\n'],
  ['of an agent without a text prints all of it', AGENT, { steps: 2 }, '{"steps":2}\n'],
  [
    'of another task prints all of it',
    ['--task', 'command'],
    { text: 'Hello.', exitCode: 0 },
    '{"text":"Hello.","exitCode":0}\n',
  ],
])('--quiet %s', async (_, args, result, printed) => {
  const { out, err } = await played(
    (job) => {
      job.callModel({ inputTokens: 1 })
      job.useTool('read_file', { path: 'a' }, { ok: false })
      job.succeed(result)
    },
    { args: [...args, '--quiet'] },
  )
  expect([out, err]).toEqual([printed, ''])
})

test('show --quiet prints the text of an agent', async () => {
  const { server, client, job } = await running()
  job.succeed({ text: 'Hello.', steps: 1 })
  await expectExit(client, 0)
  const shown = spawnClient(['show', job.id, '--quiet'], { server: server.url })
  await expectExit(shown, 0)
  expect(shown.out()).toBe('Hello.\n')
})

test('a tool that is open when the job is cancelled is settled, and then comes the receipt with what it used', async () => {
  const { server, client, job } = await running()
  job.callModel({ inputTokens: 1000, outputTokens: 20 })
  job.startTool('terminal', { command: 'npm test' })
  server.onEnd = (asked, kind) => {
    asked.clockMs = 2100
    asked.committed(kind)
    asked.released(kind, { ...RECEIPT, usage: { inputTokens: 1000, outputTokens: 20 } })
  }
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toBe(
    [
      `cancelling job ${job.id} (again: leave at once)`,
      '… terminal  npm test  cancelled after 2.1 s',
      'cancelled: 13 processes gone, confirmed in 2.4 ms (pidns); 1,000 tokens in, 20 out',
      '',
    ].join('\n'),
  )
})

test('a receipt without usage has the usage line before it', async () => {
  const { server, client, job } = await running()
  job.callModel({ inputTokens: 1000 })
  server.onEnd = (asked, kind) => {
    asked.committed(kind)
    asked.released(kind)
  }
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toMatch(/\n1 model call, 1,000 tokens in, 0 ms\ncancelled: 13 processes gone, .*\(pidns\)\n$/)
})

test('--on-interrupt stop says what the stop waits for, where the job works in calls and tools', async () => {
  const { server, client, job } = await running('--on-interrupt', 'stop')
  const callId = job.startTool('terminal', { command: 'npm test' })
  await eventually(() => expect(server.job.unsentBytes).toBe(0))
  server.onEnd = (asked, kind) => {
    asked.committed(kind)
    asked.clockMs = 40
    asked.finishTool('terminal', callId, { summary: 'exit code 0' })
    asked.released(kind)
  }
  // Until the client has read that a tool is at work.
  await eventually(() => expect(client.err()).toContain('▸ terminal'))
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toBe(
    [
      '▸ terminal  npm test',
      `stopping job ${job.id}, after the current model call or tool (again: leave at once)`,
      '✓ terminal  npm test  40 ms',
      'stopped: 13 processes gone, confirmed in 2.4 ms (pidns)',
      '',
    ].join('\n'),
  )
})

test('a stop of a job that does not work in calls and tools promises no more than the stop', async () => {
  const { client, job } = await running('--on-interrupt', 'stop')
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toMatch(new RegExp(`^stopping job ${job.id} \\(again: leave at once\\)\\nstopped: `))
})

test('a job that is gone in the middle of a tool settles the tool before it says so', async () => {
  const { server, client, job } = await running()
  job.startTool('terminal', { command: 'npm test' })
  await eventually(() => expect(client.err()).toContain('▸ terminal'))
  server.jobs.clear()
  job.cut()
  await expectExit(client, 1)
  expect(client.err()).toMatch(
    /\n… terminal {2}npm test {2}not finished after .*\ntether: refused: there is no job .*\n$/,
  )
})

test('leaving at once settles the tools that were open', async () => {
  const { server, client, job } = await running()
  job.startTool('terminal', { command: 'npm test' })
  server.onEnd = (asked, kind) => asked.committed(kind)
  await eventually(() => expect(client.err()).toContain('▸ terminal'))
  client.child.kill('SIGINT')
  await eventually(() => expect(server.job.status).toBe('cancelling'))
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toMatch(
    new RegExp(`\\n… terminal {2}npm test {2}not finished after [0-9.]+ m?s\\nleft job ${job.id}\\n$`),
  )
})
