import { expect, test } from 'vitest'
import { nothingIsTaken, startFakeServer } from './FakeServer.ts'
import { eventually } from './spawnClient.ts'
import { CTRL_C, openTerminal } from './Terminal.ts'

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
