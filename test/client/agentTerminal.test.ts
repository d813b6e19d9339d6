// oxlint-disable no-control-regex -- controls are what this is about
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { type FakeJob, type FakeServer, nothingIsTaken, startFakeServer } from './FakeServer.ts'
import { eventually } from './spawnClient.ts'
import { CTRL_C, openTerminal } from './Terminal.ts'
import { openTmux, type TmuxTerminal } from './TmuxTerminal.ts'

// What api-client.ts shows of an agent's run on a terminal.

const AGENT = ['--stream', 'fix the tests']
const WIDE = { columns: 100, rows: 30 }
const GREEN = '\x1b[32m'

async function running(
  args: readonly string[] = AGENT,
  size = WIDE,
): Promise<{ server: FakeServer; terminal: TmuxTerminal; job: FakeJob }> {
  const server = await startFakeServer()
  server.play = (job) => job.begin()
  const terminal = openTmux(server, args, size)
  await eventually(() => expect(server.jobs.size).toBe(1))
  return { server, terminal, job: server.job }
}

async function shows(terminal: TmuxTerminal, text: string | RegExp): Promise<void> {
  await eventually(() => expect(terminal.shown()).toMatch(text))
}

async function exits(terminal: TmuxTerminal, code: number): Promise<void> {
  await eventually(() => expect(terminal.exitCode()).toBe(code))
}

test('a running tool has a line that tells its time and what it prints last, and one line remains of it', async () => {
  const { terminal, job } = await running()
  job.output('text', 'I run the tests.')
  const callId = job.startTool('terminal', { command: 'npm test' })
  for (let line = 1; line <= 9; line += 1) job.output('stdout', `ok ${line}\n`)
  job.output('stderr', 'half a')
  await shows(
    terminal,
    /^I run the tests\.\n▸ terminal {2}npm test {2}[0-9.]+ m?s\n {2}│ ok 8\n {2}│ ok 9\n {2}│ half a$/,
  )
  await shows(terminal, /npm test {2}1\.[0-9] s\n/)
  job.clockMs = 61_000
  job.finishTool('terminal', callId)
  job.output('text', 'They pass.\n')
  job.succeed(null)
  await exits(terminal, 0)
  expect(terminal.shown()).toBe(
    [
      'I run the tests.',
      '✓ terminal  npm test  1 min 1 s',
      '  │ … 7 more before (--verbose shows all)',
      '  │ ok 8',
      '  │ ok 9',
      '  │ half a',
      'They pass.',
    ].join('\n'),
  )
})

test('a model that is waited for is shown until it speaks, or has ended without a word', async () => {
  const { terminal, job } = await running()
  job.send('model.started', { model: 'gpt\x1b[2J-x' })
  await shows(terminal, /^▸ model {2}gpt \[2J-x {2}[0-9.]+ m?s$/)
  job.output('text', 'Hello.\n')
  await shows(terminal, /^Hello\.$/)
  job.send('model.finished', { model: 'gpt-x' })
  job.send('model.started', { model: 'gpt-x' })
  await shows(terminal, /^Hello\.\n▸ model {2}gpt-x {2}[0-9.]+ m?s$/)
  job.send('model.finished', { model: 'gpt-x' })
  await shows(terminal, /^Hello\.$/)
  job.send('model.started', { model: 'gpt-x' })
  await shows(terminal, '▸ model')
  job.fail({ code: 'X', message: 'no answer', retryable: false })
  await exits(terminal, 1)
  expect(terminal.shown()).toBe('Hello.\n3 model calls, 0 ms\nfailed: no answer (X)')
})

test('more of what a tool printed remains where it failed', async () => {
  const { terminal, job } = await running()
  const callId = job.startTool('terminal', { command: 'make' })
  for (let line = 1; line <= 12; line += 1) job.output('stdout', `line ${line}\n`)
  job.finishTool('terminal', callId, { ok: false, summary: 'exit code 2' })
  job.succeed(null)
  await exits(terminal, 0)
  const lines = terminal.shown().split('\n')
  expect(lines.slice(0, 3)).toEqual([
    '✗ terminal  make  exit code 2  0 ms',
    '  │ … 2 more before (--verbose shows all)',
    '  │ line 3',
  ])
  expect(lines).toHaveLength(12)
})

test('with --verbose all that a tool printed stands above its line, once', async () => {
  const { terminal, job } = await running(['--verbose', ...AGENT])
  const callId = job.startTool('terminal', { command: 'make' })
  for (let line = 1; line <= 12; line += 1) job.output('stdout', `line ${line}\n`)
  await shows(terminal, /▸ terminal {2}make {2}[0-9.]+ m?s$/)
  const printed = ['▸ terminal  make', ...Array.from({ length: 12 }, (_, index) => `  │ line ${index + 1}`)]
  expect(terminal.shown().split('\n').slice(0, -1)).toEqual(printed)
  job.finishTool('terminal', callId, { summary: 'exit code 0' })
  job.succeed(null)
  await exits(terminal, 0)
  expect(terminal.shown().split('\n')).toEqual([...printed, '✓ terminal  make  exit code 0  0 ms'])
})

test("where several tools are open, what is printed is the newest terminal's", async () => {
  const { terminal, job } = await running()
  const calls = ['sub_agent', 'terminal', 'terminal', 'sub_agent'].map((tool) => ({
    tool,
    callId: job.startTool(tool, { command: 'x' }),
  }))
  job.output('stdout', 'printed\n')
  for (const { tool, callId } of calls) job.finishTool(tool, callId)
  job.succeed(null)
  await exits(terminal, 0)
  expect(terminal.shown().split('\n')).toEqual([
    '✓ sub_agent  x  0 ms',
    '✓ terminal  x  0 ms',
    '✓ terminal  x  0 ms',
    '  │ printed',
    '✓ sub_agent  x  0 ms',
  ])
})

test('text that comes while a tool runs stands above its line and is not torn by it', async () => {
  const { terminal, job } = await running()
  const callId = job.startTool('wait', { path: 'a' })
  await shows(terminal, /^▸ wait/)
  job.output('text', 'one ')
  await shows(terminal, /^one$/)
  job.output('text', 'line\n')
  await shows(terminal, /^one line\n▸ wait {2}a {2}[0-9.]+ m?s$/)
  job.finishTool('wait', callId)
  job.succeed(null)
  await exits(terminal, 0)
  expect(terminal.shown()).toBe('one line\n✓ wait  a  0 ms')
})

test('children and their tools go on below, each under its label, and a half line of the text is not torn', async () => {
  const { server, terminal, job } = await running()
  const call = job.startTool('sub_agent', { prompt: 'look' })
  const child = server.startChild(job, 'agent', { prompt: 'look' })
  await eventually(() => expect(child.readerCount).toBe(1))
  const grandchild = server.startChild(child, 'agent', { prompt: 'count' })
  await eventually(() => expect(grandchild.readerCount).toBe(1))
  const tool = grandchild.startTool('terminal', { command: 'ls' })
  grandchild.output('stdout', 'a.txt\n')
  await shows(
    terminal,
    /^ {2}\[1\] ▸ agent {2}look\n {4}\[1\.1\] ▸ agent {2}count\n▸ sub_agent {2}look {2}.*\n {4}\[1\.1\] ▸ terminal {2}ls {2}.*\n {4}\[1\.1\] {3}│ a\.txt$/,
  )
  job.output('text', 'half ')
  await shows(terminal, /count\nhalf$/)
  grandchild.finishTool('terminal', tool)
  job.output('text', 'a line\n')
  await shows(terminal, '✓ terminal')
  grandchild.succeed(null)
  server.finishChild(child, grandchild)
  child.succeed(null)
  server.finishChild(job, child)
  job.finishTool('sub_agent', call)
  job.succeed(null)
  await exits(terminal, 0)
  expect(terminal.shown()).toBe(
    [
      '  [1] ▸ agent  look',
      '    [1.1] ▸ agent  count',
      'half a line',
      '    [1.1] ✓ terminal  ls  0 ms',
      '    [1.1]   │ a.txt',
      '    [1.1] ✓ agent  count  0 ms',
      '✓ sub_agent  look  0 ms',
    ].join('\n'),
  )
})

test('a child is shown although the text stops in the middle of a line', async () => {
  const { server, terminal, job } = await running()
  const child = server.startChild(job, 'agent', { prompt: 'look' })
  await shows(terminal, '[1] ▸ agent')
  job.output('text', 'half')
  await shows(terminal, /half$/)
  child.useTool('read_file', { path: 'a' })
  await shows(terminal, /half\n {2}\[1\] ✓ read_file/)
  job.output('text', ' a line\n')
  await shows(terminal, /read_file.*\n a line$/)
})

test('of more running tools than there is room for the newest are shown', async () => {
  const { terminal, job } = await running(AGENT, { columns: 60, rows: 24 })
  const calls = Array.from({ length: 30 }, (_, index) => job.startTool('wait', { path: `number ${index + 1}` }))
  await shows(terminal, /^… and 21 more\n▸ wait {2}number 22 .*\n/)
  expect(terminal.shown().split('\n')).toHaveLength(10)
  for (const callId of calls) job.finishTool('wait', callId)
  job.succeed(null)
  await exits(terminal, 0)
  const lines = terminal.shown().split('\n')
  expect(lines).toHaveLength(30)
  expect(lines[29]).toBe('✓ wait  number 30  0 ms')
})

test('a real ^C settles the line of a tool that is open, and then comes the receipt', async () => {
  const { server, terminal, job } = await running()
  // So long that the echo of the key would begin a row, if a row went to the end.
  const command = 'x'.repeat(200)
  job.startTool('terminal', { command })
  job.output('stdout', `${command}\n`)
  await shows(terminal, '│ xxx')
  server.onEnd = (asked, kind) => {
    asked.clockMs = 2100
    asked.committed(kind)
    asked.released(kind)
  }
  terminal.press('C-c')
  await exits(terminal, 130)
  expect(terminal.shown()).toBe(
    [
      `cancelling job ${job.id} (again: leave at once)`,
      `… terminal  ${'x'.repeat(63)}…  cancelled after 2.1 s`,
      'cancelled: 13 processes gone, confirmed in 2.4 ms (pidns)',
    ].join('\n'),
  )
})

test('rows keep to the width of a narrow terminal, also with wide characters and emoji', async () => {
  const { server, terminal, job } = await running(['--reasoning', ...AGENT], { columns: 30, rows: 40 })
  job.useTool('terminal', { command: '日本語日本語日本語日本語日本語日本語' }, { ms: 1200 })
  job.useTool('write_file', { path: '👩‍👩‍👧‍👦'.repeat(20) }, { ok: false, summary: '❤️'.repeat(30) })
  job.useTool('🧪'.repeat(30), { path: 'e\u0301'.repeat(50) })
  job.output('reasoning', '思'.repeat(20))
  const open = job.startTool('terminal', { command: 'x'.repeat(100) })
  job.output('stdout', `${'y'.repeat(100)}\n`)
  const child = server.startChild(job, 'agent', { prompt: 'z'.repeat(100) })
  child.output('text', `${'w'.repeat(40)}\n`)
  await shows(terminal, /w\n▸ terminal {2}x+… {2}[0-9.]+ m?s\n {2}│ y+…$/)
  const rows = terminal.shown().split('\n')
  expect(rows.slice(0, 5)).toEqual([
    '✓ terminal  日本語日…  1.2 s',
    expect.stringMatching(/^✗ write_fi… {2}.*… {2}.*… {2}0 ms$/),
    expect.stringMatching(/^✓ 🧪🧪🧪🧪… {2}(e\u0301)+… {2}0 ms$/u),
    '┊ 思思思思思思思思思思思思思',
    '┊ 思思思思思思思',
  ])
  expect(rows.slice(5, 8)).toEqual([
    `  [1] ▸ agent  ${'z'.repeat(13)}…`,
    `  [1] ${'w'.repeat(23)}`,
    `  [1] ${'w'.repeat(17)}`,
  ])
  job.finishTool('terminal', open)
  job.succeed(null)
  await exits(terminal, 0)
})

test('what is said of a job does not begin a row of the terminal but with words of the client', async () => {
  const { terminal, job } = await running(AGENT, { columns: 40, rows: 30 })
  const path = `a${' '.repeat(30)}${'✓ forged  '.repeat(10)}`
  job.send('artifact', { name: 'a', path, mediaType: 'text/plain', bytes: 1, sha256: '' })
  job.fail({ code: 'X', message: path, retryable: false })
  await exits(terminal, 1)
  const rows = terminal.shown().split('\n')
  expect(rows.length).toBeGreaterThan(6)
  for (const row of rows) expect(row).toMatch(/^(file | {2}|failed: )/)
})

test('a terminal that becomes narrower has shorter rows from then on', async () => {
  const { terminal, job } = await running()
  const callId = job.startTool('terminal', { command: 'x'.repeat(90) })
  await shows(terminal, /▸ terminal {2}x{70,}… {2}[0-9.]+ m?s$/)
  terminal.resize(40, 20)
  await shows(terminal, /▸ terminal {2}x{10,18}… {2}[0-9.]+ m?s$/)
  job.finishTool('terminal', callId)
  job.succeed(null)
  await exits(terminal, 0)
  expect(terminal.shown()).toMatch(/✓ terminal {2}x{10,22}… {2}0 ms$/)
})

test('a client that was halted and goes on leaves what was written to the terminal meanwhile', async () => {
  const { terminal, job } = await running()
  const calls = ['a', 'b', 'c'].map((path) => job.startTool('wait', { path }))
  await shows(terminal, /▸ wait {2}c .*$/)
  process.kill(terminal.pid(), 'SIGSTOP')
  await eventually(() => expect(stateOf(terminal.pid())).toBe('T'))
  terminal.write('\r\n$ fg\r\n')
  process.kill(terminal.pid(), 'SIGCONT')
  await shows(
    terminal,
    /^▸ wait {2}a .*\n▸ wait {2}b .*\n▸ wait {2}c .*\n\$ fg\n\n▸ wait {2}a .*\n▸ wait {2}b .*\n▸ wait {2}c .*$/,
  )
  for (const callId of calls) job.finishTool('wait', callId)
  job.succeed(null)
  await exits(terminal, 0)
  expect(terminal.shown()).toMatch(/\$ fg\n\n✓ wait {2}a .*\n✓ wait {2}b .*\n✓ wait {2}c .*$/)
})

function stateOf(pid: number): string | undefined {
  return / ([A-Za-z]) /.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1]
}

test('marks are coloured on a terminal', async () => {
  const { terminal, job } = await running()
  job.useTool('read_file', { path: 'a' })
  job.useTool('read_file', { path: 'b' }, { ok: false, summary: 'no' })
  job.succeed(null)
  await exits(terminal, 0)
  expect(terminal.coloured()).toMatch(/^\x1b\[32m✓\x1b\[39m read_file {2}a {2}\x1b\[2m0 ms/)
  expect(terminal.coloured()).toMatch(/\x1b\[31m(\x1b\[49m)?✗/)
})

test.each([
  ['without colours where NO_COLOR says so', { NO_COLOR: '1' }, false],
  ['with colours where NO_COLOR is empty', { NO_COLOR: '' }, true],
  ['without colours and moves on a terminal that can neither', { TERM: 'dumb' }, false],
])('a terminal is written %s', async (_, env, isColoured) => {
  const server = await startFakeServer()
  server.play = (job) => job.begin()
  const terminal = openTerminal(server, AGENT.map((arg) => `'${arg}'`).join(' '), { env })
  await eventually(() => expect(server.jobs.size).toBe(1))
  const callId = server.job.startTool('read_file', { path: 'a' })
  await eventually(() => expect(terminal.shown()).toContain('▸ read_file  a'))
  server.job.finishTool('read_file', callId)
  server.job.succeed(null)
  expect(await terminal.exited).toBe(0)
  expect(terminal.shown().includes(GREEN)).toBe(isColoured)
  expect(terminal.shown().includes('\x1b[2K')).toBe(!('TERM' in env))
})

test('on a terminal whose stdout goes elsewhere, tools are shown and stdout is the text alone', async () => {
  const server = await startFakeServer()
  server.play = (job) => job.begin()
  const terminal = openTerminal(server, '--stream x', { redirect: '| sed s/^/OUT:/' })
  await eventually(() => expect(server.jobs.size).toBe(1))
  const callId = server.job.startTool('terminal', { command: 'make' })
  server.job.output('stdout', 'printed\n')
  await eventually(() => expect(terminal.shown()).toContain('│ printed'))
  server.job.output('text', 'The text.\n')
  server.job.finishTool('terminal', callId)
  server.job.succeed(null)
  await terminal.exited
  expect(terminal.shown().match(/OUT:.*/g)).toEqual(['OUT:The text.'])
})

test('where stderr is no terminal, nothing of the client gets to the terminal', async () => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.output('text', 'The ')
    job.useTool('terminal', { command: 'make' })
    job.output('text', 'text.\n')
    job.callModel()
    job.succeed(null)
  }
  const terminal = openTerminal(server, '--stream x', { redirect: '2>/dev/null' })
  expect(await terminal.exited).toBe(0)
  expect(terminal.shown()).toBe('The \r\ntext.\r\n')
})

test('colours that the job left on do not colour what goes on below, nor the rows of the client', async () => {
  const { terminal, job } = await running()
  const callId = job.startTool('wait', { path: 'a' })
  job.output('text', '\x1b[31mred\n')
  await shows(terminal, /red\n▸ wait/)
  expect(terminal.coloured()).toMatch(/\x1b\[31mred\n\x1b\[39m▸ wait/)
  job.finishTool('wait', callId)
  job.succeed(null)
  await exits(terminal, 0)
  expect(terminal.coloured()).toMatch(/\x1b\[31mred\n\x1b\[32m✓/)
})

test('a terminal that takes nothing is not written to again and again, and hears ^C', async () => {
  const server = await startFakeServer()
  server.onEnd = (job, kind) => job.committed(kind)
  const terminal = openTerminal(server, '--stream x')
  await eventually(() => expect(server.jobs.size).toBe(1))
  const { job } = server
  job.startTool('terminal', { command: 'make' })
  await eventually(() => expect(terminal.shown()).toContain('▸ terminal'))
  terminal.hold()
  for (let count = 0; count < 400; count += 1) job.output('text', `${'x'.repeat(1000)}\n`.repeat(50))
  await nothingIsTaken(job)
  process.kill(terminal.pid(), 'SIGINT')
  await eventually(() => expect(job.status).toBe('cancelling'))
  process.kill(terminal.pid(), 'SIGINT')
  await eventually(() => expect(job.disconnects).toBe(1))
})

test('thousands of tools leave a line each, whatever was drawn between', async () => {
  const { terminal, job } = await running(AGENT, { columns: 80, rows: 10 })
  job.startTool('terminal', { command: 'never' })
  for (let count = 1; count <= 1500; count += 1) job.useTool('read_file', { path: `file ${count}` })
  job.succeed(null)
  await exits(terminal, 0)
  const lines = terminal.shown().split('\n')
  expect(lines).toHaveLength(1501)
  for (const [index, line] of lines.slice(0, 1500).entries()) expect(line).toBe(`✓ read_file  file ${index + 1}  0 ms`)
})

test('what the job says cannot move over the rows of the client', async () => {
  const { terminal, job } = await running()
  job.useTool('read_file', { path: 'a' })
  const callId = job.startTool('terminal', { command: 'evil' })
  job.output('stdout', '\x1b[5A\x1b[2J\x1b]0;own\x07\x9b3A forged\n\r\x1b[1A✓ forged\n')
  await shows(terminal, '✓ forged')
  job.output('text', '\x1b[3A\x1b[2K\u202eover')
  job.finishTool('terminal', callId, { ok: false, summary: '\x1b[2A\r✓ fine' })
  job.succeed(null)
  await exits(terminal, 0)
  expect(terminal.shown()).toBe(
    ['✓ read_file  a  0 ms', 'over', '✗ terminal  evil  [2A ✓ fine  0 ms', '  │  forged', '  │ ✓ forged'].join('\n'),
  )
})

test('a real ^C in a terminal of another make leaves no row of what went on', async () => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.startTool('terminal', { command: 'make' })
  }
  const terminal = openTerminal(server, '--stream x', { columns: 40 })
  await eventually(() => expect(terminal.shown()).toContain('▸ terminal  make'))
  terminal.press(CTRL_C)
  expect(await terminal.exited).toBe(130)
  const [before = '', after = ''] = terminal.shown().split('… terminal  make  cancelled after')
  expect(before).toContain('\r\x1b[2Kcancelling job')
  expect(before).toMatch(/\r\x1b\[2K$/)
  // A row that is wider than was counted is cut, so that the way back up is as long as was counted.
  expect(before).toMatch(/\x1b\[\?7l▸ terminal {2}make.*\x1b\[\?7h/)
  expect(after).not.toContain('▸')
})
