import { execFileSync, spawn } from 'node:child_process'
import { expect, onTestFinished, test } from 'vitest'
import { type FakeServer, nothingIsTaken, startFakeServer } from './FakeServer.ts'
import { CLIENT, eventually } from './spawnClient.ts'

const CTRL_C = '\x03'
/** Told by the shell that becomes the client. */
const PID = /^pid ([0-9]+)\r\n/

interface Terminal {
  readonly shown: () => string
  readonly press: (keys: string) => void
  /** From now on nothing is taken from the terminal, as when the connection of a remote shell hangs. */
  readonly hold: () => void
  /** The client's own process. */
  readonly pid: () => number
  readonly exited: Promise<number | null>
}

/** The client under a pseudo-terminal of its own, made by script(1) of util-linux, with keys that arrive as keys do. */
function openTerminal(server: FakeServer, args: string): Terminal {
  assertScript()
  const command = `echo "pid $$"; exec '${process.execPath}' '${CLIENT}' ${args}`
  const child = spawn('script', ['-q', '-e', '-c', command, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { PATH: process.env['PATH'], TERM: 'xterm', TETHER_URL: server.url, SHELL: '/bin/sh' },
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let shown = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (shown += text))
  const exited = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  return {
    shown: () => shown.replace(PID, ''),
    press: (keys) => void child.stdin.write(keys),
    hold: () => void child.stdout.pause(),
    pid: () => Number(PID.exec(shown)?.[1]),
    exited,
  }
}

function assertScript(): void {
  try {
    expect(execFileSync('script', ['--version'], { encoding: 'utf8' })).toContain('util-linux')
  } catch (error) {
    throw new Error('these tests need script(1) of util-linux for a pseudo-terminal (Debian: bsdutils)', {
      cause: error,
    })
  }
}

const COMMAND = `--task command --input '{"command":"make test"}'`

test('a real ^C in a terminal cancels, and the receipt stands on a line of its own', async () => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.output('stdout', 'half a line')
  }
  const terminal = openTerminal(server, COMMAND)
  await eventually(() => expect(terminal.shown()).toContain('half a line'))
  terminal.press(CTRL_C)
  expect(await terminal.exited).toBe(130)
  expect(server.requestsTo('POST', /cancel$/)).toHaveLength(1)
  expect(terminal.shown()).toContain('\ncancelled: 13 processes gone, confirmed in 2.4 ms (pidns)\r\n')
})

test('two ^C leave at once', async () => {
  const server = await startFakeServer()
  server.onEnd = (job, kind) => job.committed(kind)
  const terminal = openTerminal(server, COMMAND)
  await eventually(() => expect(server.jobs.size).toBe(1))
  server.job.output('stdout', 'ready')
  await eventually(() => expect(terminal.shown()).toContain('ready'))
  terminal.press(CTRL_C)
  await eventually(() => expect(server.job.status).toBe('cancelling'))
  terminal.press(CTRL_C)
  expect(await terminal.exited).toBe(130)
  await eventually(() => expect(server.job.disconnects).toBe(1))
})

test('output of a task keeps its colours and cannot retitle or reprogram the terminal', async () => {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.output('stdout', '\x1b[31mred\x1b[0m \x1b]0;ow')
    job.output('stdout', 'ned\x07\x1b[2Jplain\n\x1b[32m')
    job.output('stderr', '\x1bcwarning')
    job.succeed(null)
  }
  const terminal = openTerminal(server, COMMAND)
  expect(await terminal.exited).toBe(0)
  expect(terminal.shown()).toBe('\x1b[31mred\x1b[0m plain\r\n\x1b[32mwarning\x1b[0m\r\n')
})

test('a signal is heard while the terminal takes nothing', async () => {
  const server = await startFakeServer()
  server.onEnd = (job, kind) => job.committed(kind)
  const terminal = openTerminal(server, COMMAND)
  await eventually(() => expect(server.jobs.size).toBe(1))
  server.job.output('stdout', 'ready')
  await eventually(() => expect(terminal.shown()).toContain('ready'))
  terminal.hold()
  for (let part = 0; part < 400; part += 1) server.job.output('stdout', `${'x'.repeat(1000)}\n`.repeat(50))
  await nothingIsTaken(server.job)
  process.kill(terminal.pid(), 'SIGINT')
  await eventually(() => expect(server.job.status).toBe('cancelling'))
  process.kill(terminal.pid(), 'SIGINT')
  await eventually(() => expect(server.job.disconnects).toBe(1))
})
