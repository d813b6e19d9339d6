import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import Type from 'typebox'
import { systemClock } from '../../src/clock.ts'
import { openRedisEngine } from '../../src/cluster/openRedisEngine.ts'
import { readConfig } from '../../src/config.ts'
import { defineTask } from '../../src/execution/task.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import type { SharedEngine } from '../../src/jobs/SharedEngine.ts'
import { openTether, type Tether } from '../../src/tether.ts'
import { type Ended, sharedNowMs } from '../clock.ts'
import { answerCalls } from '../Program.ts'
import { loadTasks } from './loadTasks.ts'

const caller = { tenant: DEFAULT_TENANT, subject: 'bench' }
const noInput = Type.Object({}, { additionalProperties: false })

/** Notes the instant at which its signal fires. */
const waiting = defineTask({
  name: 'waiting',
  input: noInput,
  async run(ctx) {
    begun.add(ctx.jobId)
    await new Promise<void>((resolve) => {
      ctx.signal.addEventListener('abort', () => {
        aborted.push({ id: ctx.jobId, atMs: sharedNowMs() })
        resolve()
      })
    })
  },
})

/** Says one word at once, and then waits. */
const speaking = defineTask({
  name: 'speaking',
  input: noInput,
  async run(ctx) {
    await ctx.output('up')
    await ctx.sleep(100_000_000)
  },
})

const nothing = defineTask({ name: 'nothing', input: noInput, run: () => Promise.resolve(null) })

const begun = new Set<string>()
let aborted: Ended[] = []
let tether: Tether | undefined
let folder: string | undefined
let redisUrl = ''
let started = 0

function opened(): Tether {
  if (tether === undefined) throw new Error('the server was not opened')
  return tether
}

async function start(task: string): Promise<string> {
  started += 1
  const jobId = parseJobId(`bench-${process.pid}-${started}`)
  const spec = { task, input: {}, jobId, policy: { onDisconnect: 'continue' as const }, metadata: {} }
  await opened().jobs.start({ spec, fingerprint: jobId, caller })
  return jobId
}

const calls = {
  /** Settles with the address. One that runs nothing still serves every job. */
  async open({
    url,
    runsJobs,
    env,
  }: {
    readonly url: string
    readonly runsJobs: boolean
    readonly env: Readonly<Record<string, string>>
  }): Promise<string> {
    redisUrl = url
    folder = await mkdtemp(join(tmpdir(), 'tether-bench-'))
    const config = readConfig({ PORT: '0', DATA_DIR: folder, LOG_LEVEL: 'error', ...env })
    const logger = pino({ level: 'error' })
    let engine: SharedEngine | undefined
    tether = await openTether({
      config,
      logger,
      serverEnv: process.env,
      cwd: folder,
      tasks: [...loadTasks, waiting, speaking, nothing],
      openShared: async (terms) => {
        const options = { ...config, ...terms, url, logger, clock: systemClock }
        engine = await openRedisEngine(options)
        return engine
      },
    })
    if (!runsJobs) engine?.stopClaiming()
    return tether.url
  },
  /** Starts jobs that wait, where another process runs them. Settles with their ids. */
  async startWaiting(jobs: number): Promise<readonly string[]> {
    return Promise.all(Array.from({ length: jobs }, () => start('waiting')))
  },
  /** Whether all of these run here. */
  haveBegun(ids: readonly string[]): boolean {
    return ids.every((id) => begun.has(id))
  },
  /** Cancels one job after the other, and tells when each was asked for; `cut`: just after all connections for hints were cut. */
  async cancelEach({
    ids,
    cut,
  }: {
    readonly ids: readonly string[]
    readonly cut: boolean
  }): Promise<readonly Ended[]> {
    await using hints = new HintCutter(redisUrl)
    const asked: Ended[] = []
    for (const id of ids) {
      await sleep(cut ? MENDED_MS : QUIET_MS)
      if (cut) await hints.cut()
      const atMs = sharedNowMs()
      await opened().jobs.cancelJob(id)
      asked.push({ id, atMs })
    }
    return asked
  },
  /** The jobs whose signal has fired since this was last asked. */
  takeAborted(): readonly Ended[] {
    const taken = aborted
    aborted = []
    return taken
  },
  /** Starts jobs that do nothing. Settles when the last of them is recorded. */
  async startMany({ jobs, atOnce }: { readonly jobs: number; readonly atOnce: number }): Promise<void> {
    let left = jobs
    const lane = async (): Promise<void> => {
      while (left > 0) {
        left -= 1
        await start('nothing')
      }
    }
    await Promise.all(Array.from({ length: atOnce }, lane))
  },
}

/** Long enough for a server to have nothing left to do. */
const QUIET_MS = 10
/** Long enough for a connection to be back. */
const MENDED_MS = 120

/** Cuts connections that wait for hints, which are known by the command that they are at. */
class HintCutter implements AsyncDisposable {
  readonly #redis: Redis

  constructor(url: string) {
    this.#redis = new Redis(url)
  }

  async cut(): Promise<void> {
    const clients = String(await this.#redis.client('LIST')).split('\n')
    const ids = clients.filter((line) => line.includes(' cmd=xread ')).map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '')
    if (ids.length === 0) throw new Error('no connection waits for hints')
    for (const id of ids) await this.#redis.client('KILL', 'ID', id)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#redis.quit()
  }
}

export type ReplicaCalls = typeof calls

answerCalls(calls, async () => {
  await tether?.stop()
  if (folder !== undefined) await rm(folder, { recursive: true, force: true })
})
