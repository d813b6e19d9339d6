import { readdirSync, readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import type { ContainedProcess, Containment, SpawnRequest } from '../../src/resources/processes/Containment.ts'
import { probeContainment } from '../../src/resources/processes/probeContainment.ts'
import { isAlive, readStat } from '../../src/resources/processes/procfs.ts'

export const PATH = '/usr/local/bin:/usr/bin:/bin'

/** Every level that this machine gives: each test runs at each of them. */
export async function availableLevels(): Promise<readonly Containment[]> {
  const found: Containment[] = []
  for (const level of ['cgroup', 'pidns', 'group'] as const) {
    try {
      found.push((await probeContainment(level)).containment)
    } catch (error) {
      // Not there: the reason is in the probe's own test. Anything that is no refusal is a bug.
      if (!(error instanceof Error && error.message.startsWith('CONTAINMENT='))) throw error
    }
  }
  return found
}

export function request(argv: readonly [string, ...string[]], more: Partial<SpawnRequest> = {}): SpawnRequest {
  return { argv, cwd: '/', env: { PATH }, stdin: false, owner: 'test:job', ...more }
}

/** Starts a shell line; both pipes flow. */
export async function run(containment: Containment, line: string, more: Partial<SpawnRequest> = {}): Promise<Running> {
  const process = await containment.spawn(request(['sh', '-c', line], more))
  return { process, stdout: textOf(process.stdout), stderr: textOf(process.stderr) }
}

export interface Running {
  readonly process: ContainedProcess
  readonly stdout: Text
  readonly stderr: Text
}

export interface Text {
  readonly soFar: () => string
  /** Settles when the pipe is closed. */
  readonly whole: Promise<string>
}

/** Reads a pipe until it is closed, by its end or by force. */
export function textOf(pipe: Readable): Text {
  const chunks: Buffer[] = []
  const soFar = () => Buffer.concat(chunks).toString('utf8')
  pipe.on('data', (chunk: Buffer) => chunks.push(chunk))
  const whole = new Promise<string>((resolve) => pipe.once('close', () => resolve(soFar())))
  return { whole, soFar }
}

/** A `sleep` that no other test starts: its argument finds it from outside, whatever became of its group or environment. */
export function uniqueSleep(): string {
  sleeps += 1
  return `sleep ${100_000 + (process.pid % 100_000)}.${sleeps}`
}
let sleeps = 0

/** The pids of living processes whose command line is exactly `command`. */
export function running(command: string): readonly number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && commandLine(pid) === command && isAlive(readStat(pid)))
}

function commandLine(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    // It ended between the listing and the look.
    return undefined
  }
}

export async function until(what: string, condition: () => boolean, deadlineMs = 5000): Promise<void> {
  const endsMs = performance.now() + deadlineMs
  while (!condition()) {
    if (performance.now() > endsMs) throw new Error(`not within ${deadlineMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}
