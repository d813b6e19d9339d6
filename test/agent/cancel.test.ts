import { describe, expect, test } from 'vitest'
import { JumpingClock } from '../JumpingClock.ts'
import { running, uniqueSleep } from '../processes/world.ts'
import { RawClient } from '../server/RawClient.ts'
import { ask, jobOf } from '../server/requests.ts'
import { eventually, Gate } from '../world.ts'
import { type AgentWorld, ended, logOf, openAgents, SHAPES, startAgent, stepsOf, untilEvent } from './agentWorld.ts'
import { calls, failsWith, type Reply } from './FakeModelServer.ts'
import { lineOf, playDown } from './family.ts'

const NEVER = new Promise<never>(() => undefined)
const JOB = 'job-12345'

/** Shorter than the back-off that the fake server asks for: a clock that is set forward by it fires nothing else. */
const RUN_MS = 30_000

/** What an agent is in the middle of. */
interface Phase {
  readonly name: string
  /** As the cancellation says it. */
  readonly phase: string
  /** What it hears second: at first it calls a tool that there is not, so that some tokens are used in every phase. */
  readonly reply: (reached: () => void) => Reply
  /** Settles when the agent is there; default: when `reached` was called. */
  readonly until?: (world: AgentWorld, jobId: string) => Promise<unknown>
  /** Requests under way. */
  readonly requests: number
  /** How many calls of a model have come to their end. */
  readonly answered: number
}

const SLEEP = uniqueSleep()
const DEAF = uniqueSleep()

const MODEL_PHASES: readonly Phase[] = [
  {
    name: 'waiting for the head of an answer',
    phase: 'model',
    reply: () => ({ beforeHead: NEVER }),
    until: ({ model }) => eventually('it is asked', () => model.requests.at(-1)?.answers === 1),
    requests: 1,
    answered: 1,
  },
  {
    name: 'waiting for the first word, the head being there',
    phase: 'model',
    reply: (reached) => ({ parts: [{ reached }, { stall: true }] }),
    requests: 1,
    answered: 1,
  },
  {
    name: 'in the middle of an answer that has stalled',
    phase: 'model',
    reply: () => ({ parts: [{ text: 'Once upon' }, { stall: true }] }),
    until: ({ url }, id) => untilEvent(url, id, (event) => event.type === 'output' && event.text === 'Once upon'),
    requests: 1,
    answered: 1,
  },
  {
    name: 'in the middle of a thought',
    phase: 'model',
    reply: () => ({ parts: [{ reasoning: 'Hm' }, { stall: true }] }),
    until: ({ url }, id) => untilEvent(url, id, (event) => event.type === 'output' && event.channel === 'reasoning'),
    requests: 1,
    answered: 1,
  },
  {
    name: 'in the middle of a call of a tool',
    phase: 'model',
    reply: (reached) => ({ parts: [{ call: 'terminal', input: '{"command":"tru' }, { reached }, { stall: true }] }),
    requests: 1,
    answered: 1,
  },
  {
    name: 'in the middle of an answer without end',
    phase: 'model',
    reply: () => ({ parts: [{ forever: 'and then ' }] }),
    until: ({ url }, id) => untilEvent(url, id, (event) => event.type === 'output'),
    requests: 1,
    answered: 1,
  },
]

const PHASES: readonly Phase[] = [
  ...MODEL_PHASES,
  {
    name: 'in the back-off after a failed call',
    phase: 'running',
    reply: () => failsWith(503, 'busy', { 'retry-after': '50' }),
    until: ({ url }, id) => untilEvent(url, id, (event) => event.type === 'data' && event.name === 'model.retry'),
    requests: 0,
    answered: 1,
  },
  {
    name: 'in a terminal with processes',
    phase: 'tool:terminal',
    reply: () => calls(['terminal', { command: `${SLEEP} & ${SLEEP}` }]),
    until: () => eventually('both run', () => running(SLEEP).length === 2),
    requests: 0,
    answered: 2,
  },
  {
    name: 'in a terminal whose command hears no TERM',
    phase: 'tool:terminal',
    reply: () => calls(['terminal', { command: `trap '' TERM; (setsid ${DEAF}) & while :; do ${DEAF}; done` }]),
    until: () => eventually('both run', () => running(DEAF).length === 2),
    requests: 0,
    answered: 2,
  },
]

/** Ways in which a job comes to its hard end. */
const WAYS = {
  'a request': { cause: 'cancel_requested', status: 'cancelled' },
  'a client that leaves (FIN)': { cause: 'client_disconnected', status: 'cancelled' },
  'a client that leaves (RST)': { cause: 'client_disconnected', status: 'cancelled' },
  'its timeoutMs': { cause: 'timed_out', status: 'timed_out' },
} as const

type Way = keyof typeof WAYS

const ALL_WAYS: readonly Way[] = [
  'a request',
  'a client that leaves (FIN)',
  'a client that leaves (RST)',
  'its timeoutMs',
]
const CASES = [1, 3].flatMap((depth) => ALL_WAYS.map((way) => [way, depth] as const))

/** Starts the job; gives what brings its end. */
async function start({ url }: AgentWorld, way: Way, depth: number, clock: JumpingClock): Promise<() => unknown> {
  const prompt = String(depth)
  if (way === 'a request' || way === 'its timeoutMs') {
    await startAgent(url, { prompt, jobId: JOB, timeoutMs: RUN_MS })
    if (way === 'its timeoutMs') return () => clock.jump(RUN_MS)
    return () => ask(url, `/jobs/${JOB}/cancel?wait=20`, { method: 'POST' })
  }
  const client = await RawClient.connect(url)
  client.request({
    method: 'POST',
    path: '/execute/stream',
    body: { task: 'agent', jobId: JOB, input: { prompt } },
  })
  await client.until('job.started')
  return () => (way === 'a client that leaves (FIN)' ? client.socket.end() : client.socket.resetAndDestroy())
}

function usageOf(answers: number): object {
  return { inputTokens: 10 * answers, outputTokens: 5 * answers, totalTokens: 15 * answers }
}

/** Brings an agent at this depth into the phase and ends the first job of its line. */
async function endHard(
  world: AgentWorld,
  { phase, reply, until, requests, answered }: Phase,
  { way, depth, clock }: { readonly way: Way; readonly depth: number; readonly clock: JumpingClock },
): Promise<void> {
  const { model, url } = world
  const there = new Gate()
  playDown(model, ({ answers }) => (answers === 0 ? calls(['no_such_tool', {}]) : reply(() => there.open())))
  const bring = await start(world, way, depth, clock)
  const line = await lineOf(url, JOB, depth)
  const innermost = line.at(-1)?.id ?? ''
  await (until?.(world, innermost) ?? there.opened)

  const asked = model.requests.length
  await bring()
  const { status, cause } = WAYS[way]
  expect(await ended(url, JOB)).toMatchObject({
    status,
    cancellation: { cause, phase: depth === 1 ? phase : 'child' },
    receipt: {
      confirmed: true,
      survivors: [],
      usage: usageOf(depth === 1 ? answered : 1),
      released: depth === 1 ? { requests } : { requests: 0, children: 1 },
    },
  })
  expect(stepsOf(await logOf(url, JOB)).slice(-2)).toEqual(['job.cancelling', `job.${status}`])
  for (const { id } of line.slice(1)) {
    const isInnermost = id === innermost
    expect(await jobOf(url, id)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'parent_cancelled', phase: isInnermost ? phase : 'child' },
      receipt: {
        confirmed: true,
        usage: usageOf(isInnermost ? answered : 1),
        released: isInnermost ? { requests } : { children: 1 },
      },
    })
  }
  expect(await model.untilClosed()).not.toContain('server')
  expect(model.requests).toHaveLength(asked)
  model.seal()
  expect([...running(SLEEP), ...running(DEAF)]).toEqual([])
  expect(world.tether.jobs.activeCount).toBe(0)
  expect(world.tether.orchestrator.getActiveExecutionCount()).toBe(0)
}

describe.each(PHASES)('an agent that is $name', (phase) => {
  test.each(CASES)('is ended hard by %s, at depth %i', async (way, depth) => {
    const clock = new JumpingClock()
    const world = await openAgents({ clock })
    await endHard(world, phase, { way, depth, clock })
  })
})

describe.each(MODEL_PHASES)('an agent of the other shape that is $name', (phase) => {
  test.each(SHAPES.slice(1))('is ended hard by a request (%s)', async (shape) => {
    const clock = new JumpingClock()
    const world = await openAgents({ clock }, shape)
    await endHard(world, phase, { way: 'a request', depth: 1, clock })
  })
})
