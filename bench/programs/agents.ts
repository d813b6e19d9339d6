import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import Type from 'typebox'
import { Agent, fetch } from 'undici'
import { readConfig } from '../../src/config.ts'
import type { FrameSink } from '../../src/eventlog/JobReader.ts'
import { defineTask } from '../../src/execution/task.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT, type JobRef } from '../../src/job/key.ts'
import { openTether, type Tether } from '../../src/tether.ts'
import { type Ended, sharedNowMs } from '../clock.ts'
import { answerCalls } from '../Program.ts'
import { readUsage } from '../usage.ts'
import type { ModelOrder } from './modelServer.ts'

const caller = { tenant: DEFAULT_TENANT, subject: 'bench' }

/** Reads a model's stream and does nothing with it: what the model costs without the loop. */
const reads = defineTask({
  name: 'reads',
  input: Type.Object({ prompt: Type.String() }),
  async run(ctx, { prompt }) {
    const model = await ctx.model()
    const { stream } = await model.doStream({ prompt: [{ role: 'user', content: [{ type: 'text', text: prompt }] }] })
    let deltas = 0
    for await (const part of stream) if (part.type === 'text-delta') deltas += 1
    return deltas
  },
})

let tether: Tether | undefined
let folder: string | undefined
let modelUrl = ''
let started = 0
/** Of bare requests. */
const agent = new Agent({ allowH2: false, headersTimeout: 0, bodyTimeout: 0 })
const held: AbortController[] = []

function opened(): Tether {
  if (tether === undefined) throw new Error('the server was not opened')
  return tether
}

function idOf(name: string): string {
  started += 1
  return `${name}-${process.pid}-${started}`
}

async function startJob(task: string, order: ModelOrder): Promise<JobRef> {
  const id = parseJobId(order.id)
  const input = { prompt: JSON.stringify(order) }
  const spec = { jobId: id, task, input, policy: {}, metadata: {} }
  const { ref } = await opened().jobs.start({ spec, fingerprint: order.id, caller })
  return ref
}

/** Settles when the job has said something. */
function hasBegun(ref: JobRef): Promise<void> {
  return new Promise((resolve, reject) => {
    const write = (frames: string | Buffer): boolean => {
      if (frames.toString().includes('"type":"output"')) resolve()
      return true
    }
    const sink: FrameSink = { write, writePage: write, pageBytes: 64 * 1024, end: () => undefined, fail: reject }
    opened()
      .jobs.attach(ref, { after: 0, named: true, sink })
      .then(({ reader }) => reader.start(), reject)
  })
}

/** Asks the model server without anything between. */
function askBare(order: ModelOrder, signal?: AbortSignal): ReturnType<typeof fetch> {
  const messages = [{ role: 'user', content: JSON.stringify(order) }]
  return fetch(`${modelUrl}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'bench', messages, stream: true }),
    dispatcher: agent,
    ...(signal === undefined ? {} : { signal }),
  })
}

const calls = {
  async open(url: string): Promise<void> {
    modelUrl = url
    folder = await mkdtemp(join(tmpdir(), 'tether-bench-'))
    tether = await openTether({
      config: readConfig({
        PORT: '0',
        DATA_DIR: folder,
        LOG_LEVEL: 'error',
        CONCURRENCY: '4000',
        OPENAI_BASE_URL: url,
        MODEL: 'openai:bench',
      }),
      logger: pino({ level: 'error' }),
      serverEnv: process.env,
      cwd: folder,
      tasks: [reads],
    })
  },
  /** Agents that are cancelled in the middle of an answer, one after the other: when each was asked to end, and had ended. */
  async cancelEach(
    times: number,
  ): Promise<readonly { readonly id: string; readonly askedMs: number; readonly endedMs: number }[]> {
    const all = []
    for (let n = 0; n < times; n += 1) {
      const ref = await startJob('agent', { kind: 'stalling', id: idOf('cancel') })
      await hasBegun(ref)
      await sleep(QUIET_MS)
      const askedMs = sharedNowMs()
      await opened().jobs.cancelJob(ref.id)
      await opened().jobs.outcome(ref)
      all.push({ id: ref.id, askedMs, endedMs: sharedNowMs() })
    }
    return all
  },
  /** The same with bare requests that are aborted. */
  async abortEach(times: number): Promise<readonly Ended[]> {
    const all: Ended[] = []
    for (let n = 0; n < times; n += 1) {
      const id = idOf('abort')
      const abort = new AbortController()
      const response = await askBare({ kind: 'stalling', id }, abort.signal)
      const reader = response.body?.getReader()
      await reader?.read()
      await sleep(QUIET_MS)
      all.push({ id, atMs: sharedNowMs() })
      abort.abort()
      await reader?.read().catch(() => undefined)
    }
    return all
  },
  /** An agent in the middle of an answer, asked to stop. Settles once that is in its log. */
  async beginStop(): Promise<string> {
    const ref = await startJob('agent', { kind: 'stalling', id: idOf('stop') })
    await hasBegun(ref)
    await opened().jobs.end(ref, { kind: 'stop', reason: '', caller, ifUnknown: 'reject', waitMs: 0 })
    return ref.id
  },
  /** When it had ended. */
  async ended(id: string): Promise<number> {
    await opened().jobs.outcome({ tenant: DEFAULT_TENANT, id: parseJobId(id) })
    return sharedNowMs()
  },
  /** A bare request in the middle of its answer; settles once that has begun. */
  async beginBare(): Promise<string> {
    const id = idOf('bare')
    const response = await askBare({ kind: 'stalling', id })
    const reader = response.body?.getReader()
    await reader?.read()
    const whole = (async () => {
      while ((await reader?.read())?.done === false);
      return sharedNowMs()
    })()
    bareReads.set(id, whole)
    return id
  },
  async endedBare(id: string): Promise<number> {
    return (await bareReads.get(id)) ?? Number.NaN
  },
  /** Milliseconds to read so many tokens: bare, as a model's stream, and through an agent with its log. */
  async readFast({
    how,
    tokens,
  }: {
    readonly how: 'bare' | 'reads' | 'agent'
    readonly tokens: number
  }): Promise<number> {
    const order: ModelOrder = { kind: 'fast', id: idOf('fast'), tokens }
    const beganMs = performance.now()
    if (how === 'bare') {
      const response = await askBare(order)
      for await (const _ of response.body ?? []);
    } else {
      const ref = await startJob(how, order)
      const { status } = await opened().jobs.outcome(ref)
      if (status !== 'succeeded') throw new Error(`${how} ended ${status}`)
    }
    return performance.now() - beganMs
  },
  /** Starts agents, or bare requests, that wait for the head of an answer. */
  async wait({ how, count }: { readonly how: 'bare' | 'agent'; readonly count: number }): Promise<void> {
    for (let n = 0; n < count; n += 1) {
      const order: ModelOrder = { kind: 'silent', id: idOf('wait') }
      if (how === 'agent') {
        await startJob('agent', order)
        continue
      }
      const abort = new AbortController()
      held.push(abort)
      askBare(order, abort.signal).catch(() => undefined)
    }
  },
  usage: readUsage,
}

const bareReads = new Map<string, Promise<number>>()

/** Long enough for a server to have nothing left to do, and for its timers of a few milliseconds to have run out. */
const QUIET_MS = 5

export type AgentsCalls = typeof calls

answerCalls(calls, async () => {
  for (const abort of held) abort.abort()
  await tether?.stop()
  await agent.destroy()
  if (folder !== undefined) await rm(folder, { recursive: true, force: true })
})
