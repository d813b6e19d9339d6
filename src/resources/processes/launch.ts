import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { Readable, type Writable } from 'node:stream'
import type { ExitStatus, SpawnRequest } from './Containment.ts'
import { type StatusChannel, listen } from './StatusChannel.ts'
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
  /** Settles when this child (the outermost of the wrappers) has ended. Never rejects. */
  readonly exited: Promise<ExitStatus>
}

/** @throws {TaskFailure} `TETHER_SPAWN_FAILED` */
export async function launch(command: Command, request: SpawnRequest): Promise<Launched> {
  const child = await start(command, request, [])
  return launched(child)
}

/** As `launch`, for a command that reports on its fourth pipe; settles when it has said that the program is about to run. */
export async function launchWrapped(
  command: Command,
  request: SpawnRequest,
): Promise<Launched & { readonly status: StatusChannel }> {
  const child = await start(command, request, ['pipe'])
  const pipe = child.stdio[3]
  if (!(pipe instanceof Readable)) throw new Error('a child with a fourth pipe has none')
  const status = listen(pipe)
  const process = launched(child)
  if (await startedInTime(status, child)) return { ...process, status }
  throw spawnFailure(`could not contain ${request.argv[0]}: ${await lastWords(process)}`, { retryable: true })
}

async function start(command: Command, request: SpawnRequest, more: 'pipe'[]): Promise<ChildProcess> {
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
    return child
  } catch (error) {
    throw failureOfSystem(error, request.argv[0])
  }
}

function launched(child: ChildProcess): Launched {
  const { pid, stdin, stdout, stderr } = child
  if (pid === undefined || stdout === null || stderr === null)
    throw new Error('a child that was started has no pid or pipes')
  // A program that ends without reading its input breaks the pipe: its exit says all there is to say.
  stdin?.on('error', () => {})
  const exited = new Promise<ExitStatus>((resolve) => {
    child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }))
  })
  return { pid, stdin, stdout, stderr, exited }
}

/** Setting a containment up takes milliseconds; a machine that needs longer than this is not going to do it at all. */
const START_DEADLINE_MS = 10_000

async function startedInTime(status: StatusChannel, child: ChildProcess): Promise<boolean> {
  const timer = setTimeout(() => child.kill('SIGKILL'), START_DEADLINE_MS)
  const started = await status.started
  clearTimeout(timer)
  return started
}

const MAX_WORDS_LENGTH = 500

/** What a wrapper that failed had to say, which is little: it is read whole. */
async function lastWords({ stdin, stdout, stderr, exited }: Launched): Promise<string> {
  stdin?.destroy()
  stdout.destroy()
  const chunks: Buffer[] = []
  stderr.on('data', (chunk: Buffer) => chunks.push(chunk))
  const [{ exitCode, signal }] = await Promise.all([exited, once(stderr, 'close')])
  const words = Buffer.concat(chunks).toString('utf8').trim().slice(0, MAX_WORDS_LENGTH)
  return words === '' ? `it ended with ${signal ?? `code ${exitCode}`} before the program ran` : words
}
