import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { readConfig } from '../../src/config.ts'
import { parseJobId } from '../../src/job/id.ts'
import type { Json } from '../../src/job/json.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import type { ContainmentLevel } from '../../src/job/receipt.ts'
import { probeContainment } from '../../src/resources/processes/probeContainment.ts'
import { openTether, type Tether } from '../../src/tether.ts'
import { answerCalls } from '../Program.ts'
import { spin } from './spin.ts'

/** One cancel of a running `command`, in milliseconds. */
export interface StopTimes {
  /** From the request to the terminal event in the log. */
  readonly askedToEnded: number
  /** From the abort to the kill, and from the kill to the proof that nothing is left; null where TERM was enough. */
  readonly abortedToKilled: number | null
  readonly killedToVerified: number | null
  readonly processes: number
  readonly isConfirmed: boolean
}

const caller = { tenant: DEFAULT_TENANT, subject: 'bench' }

let tether: Tether | undefined
let folder: string | undefined
let started = 0

function opened(): Tether {
  if (tether === undefined) throw new Error('the server was not opened')
  return tether
}

/** Settles when `wanted` has happened to the job, which must be asked for before it can happen. */
function eventOf(server: Tether, id: string, wanted: (type: string) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const unwatch = server.jobs.watch(({ event, row }) => {
      if (row.id !== id || !wanted(event.type)) return
      unwatch()
      resolve()
    })
  })
}

/** What is started: its `settleMs` is when a task that spins is killed, a little before. */
export interface Work {
  readonly task: string
  readonly input: Json
  readonly settleMs: number
}

async function runJob(server: Tether, { task, input, settleMs }: Work): Promise<string> {
  started += 1
  const id = parseJobId(`bench-${process.pid}-${started}`)
  await server.jobs.start({
    spec: { task, input, jobId: id, policy: { onDisconnect: 'continue', settleMs }, metadata: {} },
    fingerprint: id,
    caller,
  })
  return id
}

/** Settles when the job has sent its first output. */
async function firstOutput(server: Tether, id: string): Promise<void> {
  const seen = Promise.withResolvers<void>()
  const write = (frames: string | Buffer): boolean => {
    if (frames.includes('event: output')) seen.resolve()
    return true
  }
  const sink = {
    write,
    writePage: write,
    pageBytes: 64 * 1024,
    end: () => seen.reject(new Error(`job ${id} ended before it said anything`)),
    fail: seen.reject,
  }
  const ref = { tenant: DEFAULT_TENANT, id: parseJobId(id) }
  const { reader } = await server.jobs.attach(ref, { after: 0, sink, named: true })
  reader.start()
  await seen.promise
  reader.close()
}

/** Settles with the milliseconds to the first byte of what was started. */
async function untilItSpeaks(
  begun: () => Promise<{ readonly stdout: NodeJS.ReadableStream; readonly end: () => Promise<unknown> }>,
) {
  const beganMs = performance.now()
  const { stdout, end } = await begun()
  await once(stdout, 'data')
  const tookMs = performance.now() - beganMs
  await end()
  return tookMs
}

const calls = {
  /** Settles with what cannot be had here, or with undefined. */
  async open(env: Readonly<Record<string, string>>): Promise<string | undefined> {
    folder = await mkdtemp(join(tmpdir(), 'tether-bench-'))
    try {
      tether = await openTether({
        config: readConfig({ PORT: '0', DATA_DIR: folder, LOG_LEVEL: 'error', ...env }),
        logger: pino({ level: 'error' }),
        serverEnv: process.env,
        cwd: folder,
        tasks: [spin],
      })
      return undefined
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  },
  /** Starts jobs that sleep, to see whether ending another one takes longer beside them. */
  async fill(jobs: number): Promise<void> {
    const work = { task: 'ticks', input: { count: 1, intervalMs: 100_000_000 }, settleMs: 2000 }
    for (let n = 0; n < jobs; n += 1) await runJob(opened(), work)
  },
  /** Starts a tree, waits until it says that it is up, and cancels it; as often as asked, one after the other. */
  async cancel({ work, times }: { readonly work: Work; readonly times: number }): Promise<StopTimes[]> {
    const server = opened()
    const all: StopTimes[] = []
    for (let n = 0; n < times; n += 1) {
      const id = await runJob(server, work)
      await firstOutput(server, id)
      const ended = eventOf(server, id, (type) => type === 'job.cancelled')
      const askedMs = performance.now()
      await server.jobs.cancelJob(id)
      await ended
      const askedToEnded = performance.now() - askedMs
      const { receipt } = await server.jobs.job({ tenant: DEFAULT_TENANT, id: parseJobId(id) })
      all.push({
        askedToEnded,
        abortedToKilled: receipt?.abortedToKilledMs ?? null,
        killedToVerified: receipt?.killedToVerifiedMs ?? null,
        processes: receipt?.released.processes ?? 0,
        isConfirmed: receipt?.confirmed ?? false,
      })
    }
    return all
  },
  /** Milliseconds to the first byte: of a bare child, of one in the containment, of a job with its log. Taken in turns. */
  async start({ level, times }: { readonly level: ContainmentLevel; readonly times: number }) {
    const server = opened()
    const { containment } = await probeContainment(level)
    const script = 'echo up; exec sleep 60'
    const bare: number[] = []
    const contained: number[] = []
    const job: number[] = []
    for (let n = 0; n < times; n += 1) {
      bare.push(
        await untilItSpeaks(async () => {
          const child = spawn('/bin/sh', ['-c', script], { stdio: ['ignore', 'pipe', 'pipe'] })
          return {
            stdout: child.stdout,
            end: () => {
              const exited = once(child, 'exit')
              child.kill('SIGKILL')
              return exited
            },
          }
        }),
      )
      contained.push(
        await untilItSpeaks(async () => {
          const tree = await containment.spawn({
            argv: ['/bin/sh', '-c', script],
            cwd: '/',
            env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin' },
            stdin: false,
            owner: 'bench',
          })
          tree.stderr.resume()
          return { stdout: tree.stdout, end: () => tree.end({ graceMs: 0, deadlineMs: 5000 }) }
        }),
      )
      const beganMs = performance.now()
      const id = await runJob(server, { task: 'command', input: { command: script }, settleMs: 2000 })
      await firstOutput(server, id)
      job.push(performance.now() - beganMs)
      const ended = eventOf(server, id, (type) => type === 'job.cancelled')
      await server.jobs.cancelJob(id)
      await ended
    }
    return { bare, contained, job }
  },
}

export type StopperCalls = typeof calls

answerCalls(calls, async () => {
  await tether?.stop()
  if (folder !== undefined) await rm(folder, { recursive: true, force: true })
})
