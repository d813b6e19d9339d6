import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { Duplex, Readable, type Writable } from 'node:stream'
import type { ExitStatus, SpawnRequest } from './Containment.ts'
import { listen, type StatusChannel } from './StatusChannel.ts'
import { signalProcess } from './signalProcess.ts'
import { failureOfSystem, spawnFailure } from './spawnFailure.ts'

/** What is executed in the end: the program itself, or what stands around it. */
export interface Command {
  readonly argv: readonly [string, ...string[]]
  readonly env: Readonly<Record<string, string>>
}

/** A child of ours with its pipes. */
export interface Launched {
  readonly pid: number
  readonly stdin: Writable | null
  readonly stdout: Readable
  readonly stderr: Readable
  readonly channel: Duplex | null
  /** Settles when this child (the outermost of the wrappers) has ended. Never rejects. */
  readonly exited: Promise<ExitStatus>
}

/** @throws {TaskFailure} `TETHER_SPAWN_FAILED` */
export async function launch(command: Command, request: SpawnRequest): Promise<Launched> {
  const { pid, pipes, exited } = await start(command, request, channelOf(request))
  const [stdin, stdout, stderr, channel] = pipes
  return { pid, stdin, stdout: readable(stdout), stderr: readable(stderr), channel: duplex(channel), exited }
}

/**
 * As `launch`, for a command that begins with a wrapper: the wrapper reports on its standard error, and gives its fourth pipe to
 * the program as that, and its fifth, where there is one, as the fourth (`fdsOfProgram`). Settles when it has said that the
 * program is about to run.
 */
export async function launchWrapped(
  command: Command,
  request: SpawnRequest,
): Promise<Launched & { readonly status: StatusChannel }> {
  const { pid, pipes, exited } = await start(command, request, ['pipe', ...channelOf(request)])
  const [stdin, stdout, wrapperStderr, programStderr, ownChannel] = pipes
  const channel = duplex(ownChannel)
  const process = { pid, stdin, stdout: readable(stdout), stderr: readable(programStderr), channel, exited }
  const status = listen(readable(wrapperStderr))
  if (await startedInTime(status, pid)) return { ...process, status }
  for (const pipe of [stdin, process.stdout, process.stderr, channel]) pipe?.destroy()
  const { exitCode, signal } = await exited
  const words = status.words() || `it ended with ${signal ?? `code ${exitCode}`} before the program ran`
  throw spawnFailure(`could not contain ${request.argv[0]}: ${words.slice(0, MAX_WORDS_LENGTH)}`, { retryable: true })
}

/** Ends a child that turned out to be of no use before anybody had it. */
export function discard({ pid, stdin, stdout, stderr, channel }: Launched): void {
  // It started this very moment, so its number is still its own or nobody's.
  signalProcess(-pid, 'SIGKILL')
  for (const pipe of [stdin, stdout, stderr, channel]) pipe?.destroy()
}

/** Shell code by which a wrapper gives its program the pipes that are the program's; a wrapper's own are 5 and above. */
export function fdsOfProgram({ channel }: SpawnRequest): string {
  return channel === true ? 'exec 2>&3 3>&4 4>&-' : 'exec 2>&3 3>&-'
}

function channelOf({ channel }: SpawnRequest): readonly 'pipe'[] {
  return channel === true ? ['pipe'] : []
}

interface Started {
  readonly pid: number
  readonly pipes: ChildProcess['stdio']
  readonly exited: Promise<ExitStatus>
}

async function start(command: Command, request: SpawnRequest, more: readonly 'pipe'[]): Promise<Started> {
  const [program, ...args] = command.argv
  try {
    const child = spawn(program, args, {
      cwd: request.cwd,
      env: command.env,
      // A session of its own: without it, a signal to the child's group could be one to ours.
      detached: true,
      stdio: [request.stdin ? 'pipe' : 'ignore', 'pipe', 'pipe', ...more],
    })
    await once(child, 'spawn')
    return startedOf(child)
  } catch (error) {
    throw failureOfSystem(error, request.argv[0])
  }
}

function startedOf(child: ChildProcess): Started {
  if (child.pid === undefined) throw new Error('a child that was started has no pid')
  const pipes: ChildProcess['stdio'] = [...child.stdio]
  // At a child's exit Node resumes all its pipes (`flushStdio`): what a reader has not come to yet would be thrown away, and one
  // that has paused be flooded. It does not know of pipes that are not in its list; reading them is left to whoever has them.
  for (const index of child.stdio.keys()) child.stdio[index] = null
  // A program that ends without reading its input breaks the pipe: its exit says all there is to say.
  pipes[0]?.on('error', () => {})
  const exited = new Promise<ExitStatus>((resolve) => {
    child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }))
  })
  return { pid: child.pid, pipes, exited }
}

function readable(pipe: Readable | Writable | null | undefined): Readable {
  if (!(pipe instanceof Readable)) throw new Error('a child that was started lacks a pipe')
  return pipe
}

/** What Node calls a pipe is a pair of sockets, of which each end reads and writes. */
function duplex(pipe: Readable | Writable | null | undefined): Duplex | null {
  if (!(pipe instanceof Duplex)) return null
  // It breaks with the process at its other end, whose exit says all there is to say.
  pipe.on('error', () => {})
  return pipe
}

/** Setting a containment up takes milliseconds; a machine that needs longer than this is not going to do it at all. */
const START_DEADLINE_MS = 10_000

async function startedInTime(status: StatusChannel, pid: number): Promise<boolean> {
  const timer = setTimeout(() => signalProcess(pid, 'SIGKILL'), START_DEADLINE_MS)
  const started = await status.started
  clearTimeout(timer)
  return started
}

const MAX_WORDS_LENGTH = 500
