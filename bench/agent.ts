import { setTimeout as sleep } from 'node:timers/promises'
import { Program } from './Program.ts'
import type { AgentsCalls } from './programs/agents.ts'
import type { ModelServerCalls } from './programs/modelServer.ts'
import { figure, median, spread } from './quantile.ts'
import { formatTable } from './table.ts'

const ABORTS = 500
/** Measured in turns, so that what else the machine does falls on both sides. */
const ABORTS_A_TURN = 50
const STOPS = 200
const TOKENS = 20_000
const ROUNDS = 5
/** The first ones find code that was never run before. */
const WARM_UP = 30
/** Counted twice: the first ones make a process grow to its working size, and what the next ones add is their own. */
const IDLE_AGENTS = [1000, 1000]
const END_DEADLINE_MS = 30_000

interface Programs {
  readonly model: Program<ModelServerCalls>
  readonly agents: Program<AgentsCalls>
}

/** What an agent costs beside a bare request to the same model server: to end, to stop, to stream, to wait. */
export async function agent(): Promise<void> {
  const ends: string[][] = []
  {
    await using model = Program.start<ModelServerCalls>('modelServer')
    await using agents = Program.start<AgentsCalls>('agents')
    await agents.call('open', await model.call('open', undefined))
    ends.push(...(await aborting({ model, agents })), ...(await stopping({ model, agents })))
  }
  console.log(formatTable(['in the middle of an answer', 'from', 'measured', 'p50 ms', 'p99 ms', 'max ms'], ends))
  console.log('Seen closed: by the model server, of the socket. Bare is undici’s fetch with a signal.\n')
  const head = [`${TOKENS.toLocaleString('en')} tokens, one a chunk`, 'tokens/s', '× bare', 'CPU µs/token']
  console.log(formatTable(head, await streaming()))
  console.log('Bare reads bytes and parses nothing; an agent’s tokens are parsed, logged and shown.\n')
  const idleHead = ['waiting for a head', '', 'KiB of RSS each', '× bare', 'KiB of heap and buffers each']
  console.log(formatTable(idleHead, await idle()))
}

async function aborting({ model, agents }: Programs): Promise<readonly string[][]> {
  await agents.call('cancelEach', WARM_UP)
  await agents.call('abortEach', WARM_UP)
  await model.call('takeClosed', undefined)
  const bare: number[] = []
  const seen: number[] = []
  const ended: number[] = []
  for (let turn = 0; turn < ABORTS / ABORTS_A_TURN; turn += 1) {
    const aborted = await agents.call('abortEach', ABORTS_A_TURN)
    const closedBare = await closedOf(model, aborted)
    bare.push(...aborted.map(({ id, atMs }) => (closedBare.get(id) ?? Number.NaN) - atMs))
    const cancelled = await agents.call('cancelEach', ABORTS_A_TURN)
    const closed = await closedOf(model, cancelled)
    seen.push(...cancelled.map(({ id, askedMs }) => (closed.get(id) ?? Number.NaN) - askedMs))
    ended.push(...cancelled.map(({ askedMs, endedMs }) => endedMs - askedMs))
  }
  return [
    ['abort to seen closed', 'bare', String(bare.length), ...spread(bare)],
    ['cancel to seen closed', 'an agent', String(seen.length), ...spread(seen)],
    ['cancel to cancelled, in the log', 'an agent', String(ended.length), ...spread(ended)],
  ]
}

async function closedOf(
  model: Program<ModelServerCalls>,
  asked: readonly { readonly id: string }[],
): Promise<ReadonlyMap<string, number>> {
  const closed = new Map<string, number>()
  const latestMs = performance.now() + END_DEADLINE_MS
  while (!asked.every(({ id }) => closed.has(id))) {
    if (performance.now() > latestMs) throw new Error(`${closed.size} of ${asked.length} were seen closed`)
    for (const { id, atMs } of await model.call('takeClosed', undefined)) closed.set(id, atMs)
    await sleep(5)
  }
  return closed
}

async function stopping({ model, agents }: Programs): Promise<readonly string[][]> {
  const bare: number[] = []
  const stopped: number[] = []
  for (let n = 0; n < STOPS + WARM_UP; n += 1) {
    const bareId = await agents.call('beginBare', undefined)
    const readFrom = await model.call('finish', bareId)
    const read = (await agents.call('endedBare', bareId)) - readFrom
    const id = await agents.call('beginStop', undefined)
    const ended = agents.call('ended', id)
    const finishedMs = await model.call('finish', id)
    const stop = (await ended) - finishedMs
    if (n < WARM_UP) continue
    bare.push(read)
    stopped.push(stop)
  }
  return [
    ['its end to read', 'bare', String(bare.length), ...spread(bare)],
    ['its end to stopped, in the log', 'an agent', String(stopped.length), ...spread(stopped)],
  ]
}

const READERS = [
  { how: 'bare', name: 'bare' },
  { how: 'reads', name: 'a task that reads ctx.model' },
  { how: 'agent', name: 'an agent' },
] as const

async function streaming(): Promise<readonly string[][]> {
  await using model = Program.start<ModelServerCalls>('modelServer')
  await using agents = Program.start<AgentsCalls>('agents')
  await agents.call('open', await model.call('open', undefined))
  const measured = new Map(READERS.map(({ how }) => [how, { perS: [] as number[], cpuUs: [] as number[] }]))
  for (let round = -1; round < ROUNDS; round += 1) {
    for (const { how } of READERS) {
      const before = await agents.call('usage', undefined)
      const ms = await agents.call('readFast', { how, tokens: TOKENS })
      const after = await agents.call('usage', undefined)
      if (round < 0) continue
      measured.get(how)?.perS.push((TOKENS / ms) * 1000)
      measured.get(how)?.cpuUs.push(((after.cpuMs - before.cpuMs) * 1000) / TOKENS)
    }
  }
  const bare = median(measured.get('bare')?.perS ?? []) ?? Number.NaN
  return READERS.map(({ how, name }) => {
    const { perS = [], cpuUs = [] } = measured.get(how) ?? {}
    return [name, figure(median(perS)), figure((median(perS) ?? Number.NaN) / bare), figure(median(cpuUs))]
  })
}

async function idle(): Promise<readonly string[][]> {
  const bare = await idleKib('bare')
  const agents = await idleKib('agent')
  return IDLE_AGENTS.flatMap((count, step) => {
    const name = `${step === 0 ? 'the first' : 'the next'} ${count.toLocaleString('en')}`
    const of = bare[step]
    const own = agents[step]
    return [
      [name, 'bare', figure(of?.rss), figure(1), figure(of?.heap)],
      ['', 'an agent', figure(own?.rss), figure((own?.rss ?? Number.NaN) / (of?.rss ?? Number.NaN)), figure(own?.heap)],
    ]
  })
}

async function idleKib(how: 'bare' | 'agent'): Promise<readonly { readonly rss: number; readonly heap: number }[]> {
  await using model = Program.start<ModelServerCalls>('modelServer')
  await using agents = Program.start<AgentsCalls>('agents', ['--expose-gc'])
  await agents.call('open', await model.call('open', undefined))
  await agents.call('wait', { how, count: WARM_UP })
  await sleep(SETTLE_MS)
  const steps: { rss: number; heap: number }[] = []
  let before = await agents.call('usage', undefined)
  for (const count of IDLE_AGENTS) {
    await agents.call('wait', { how, count })
    await sleep(SETTLE_MS)
    const after = await agents.call('usage', undefined)
    steps.push({
      rss: (after.rssBytes - before.rssBytes) / 1024 / count,
      heap: (after.heapBytes - before.heapBytes) / 1024 / count,
    })
    before = after
  }
  return steps
}

const SETTLE_MS = 1500
