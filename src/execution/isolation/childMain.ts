import { flushCompileCache } from 'node:module'
import { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { systemClock } from '../../clock.ts'
import { MARKER } from '../../resources/processes/marker.ts'
import { containmentWithin } from '../../resources/processes/probeContainment.ts'
import { readLines, writeLine } from './jsonLines.ts'
import { TaskRun } from './TaskRun.ts'
import { parseToChild } from './toChild.ts'

// What runs in the process of an isolated task (TaskProcess.ts starts it). The channel to the server is file descriptor 3.
const channel = new Socket({ fd: 3 })
// It breaks with the server, whose end is met below.
channel.on('error', () => undefined)

const containment = await containmentWithin(process.env[MARKER])
writeLine(channel, { type: 'ready' })
// It is Node's, and for this process alone: what the task starts has the environment of a command. Node would write the cache
// when it exits, but this process is mostly killed.
delete process.env.NODE_COMPILE_CACHE
flushCompileCache()

// What is printed has left this process when the outcome is told, and when the author's code exits or crashes.
for (const stream of [process.stdout, process.stderr]) writeAtOnce(stream)

let run: TaskRun | undefined
let settled: Promise<void> = Promise.resolve()
// An author's `process.exit()` shall not take what was sent before it.
process.on('exit', () => run?.flush())

for await (const line of readLines(channel)) {
  const message = parseToChild(line)
  if (message.type !== 'run') {
    run?.receive(message)
    continue
  }
  run = new TaskRun(message, { clock: systemClock, channel, containment })
  settled = run.run()
}

// The server has what it wanted, or is gone: what the function still does is for nobody.
run?.receive({
  type: 'request',
  request: { kind: 'cancel', cause: 'server_shutdown', reason: 'the server is gone', requestedAt: systemClock.now() },
})
await settled
process.exit(0)

/** Sockets, which our standard streams are, take what is written some time later, except where they are made to block. */
function writeAtOnce(stream: Writable): void {
  const handle: unknown = '_handle' in stream ? stream._handle : undefined
  if (typeof handle !== 'object' || handle === null || !('setBlocking' in handle)) return
  if (typeof handle.setBlocking === 'function') handle.setBlocking(true)
}
