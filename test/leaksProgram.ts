import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { pino } from 'pino'
import Type from 'typebox'
import { readConfig } from '../src/config.ts'
import { defineTask } from '../src/execution/task.ts'
import { DEFAULT_TENANT } from '../src/job/key.ts'
import { openTether, type Tether } from '../src/tether.ts'

// Run as `node --expose-gc leaksProgram.ts DATA_DIR JOBS COMMANDS`: starts jobs whose clients leave at random moments, and
// says on one line what is held before, after half of them and after all.

const [dataDir = '', jobs = '', commands = ''] = process.argv.slice(2)
const CALLER = { tenant: DEFAULT_TENANT, subject: 'leaks' }

/** How many are under way at once. */
const CROWD = 200

const parent = defineTask({
  name: 'parent',
  input: Type.Unsafe<null>({}),
  run: (ctx) => ctx.run('busy', null),
})

/** Uses a little of everything that has to be given back. */
const busy = defineTask({
  name: 'busy',
  input: Type.Unsafe<null>({}),
  async run(ctx) {
    ctx.defer(() => undefined)
    ctx.signal.addEventListener('abort', () => undefined)
    ctx.stopSignal.addEventListener('abort', () => undefined)
    await ctx.output('begun')
    await ctx.sleep(5)
    await ctx.progress(1)
    await ctx.sleep(60_000)
  },
})

interface Snapshot {
  readonly held: Readonly<Record<string, number>>
  readonly heapBytes: number
}

function count(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const value of values.toSorted()) counts[value] = (counts[value] ?? 0) + 1
  return counts
}

/** What each descriptor leads to; numbers of sockets and pipes differ from one to the next and are left out. */
function descriptors(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [`fd ${readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, 'N')}`]
    } catch {
      // The one that listed the folder.
      return []
    }
  })
}

function children(): string[] {
  return readdirSync('/proc/self/task')
    .flatMap((thread) => readFileSync(`/proc/self/task/${thread}/children`, 'utf8').split(' '))
    .filter((pid) => pid !== '')
    .map(() => 'child')
}

function listeners(): string[] {
  return process.eventNames().flatMap((name) => {
    return Array.from({ length: process.listenerCount(name) }, () => `listener ${String(name)}`)
  })
}

function held(tether: Tether): Record<string, number> {
  return {
    ...count([...descriptors(), ...children(), ...listeners()]),
    // A timer that will fire anyway is no leak unless there are ever more of them.
    ...count(process.getActiveResourcesInfo().filter((name) => !['Immediate', 'TickObject'].includes(name))),
    'active jobs': tether.jobs.activeCount,
    'pending requests': tether.pending.size,
    executions: tether.orchestrator.getActiveExecutionCount(),
    'abandoned executions': tether.orchestrator.getAbandonedExecutionCount(),
  }
}

/** What is held once all jobs have ended and, where it is said, once it is as it should be; it gives up after some time. */
async function settle(tether: Tether, wanted?: Readonly<Record<string, number>>): Promise<Snapshot> {
  const deadlineMs = performance.now() + 20_000
  const isSettled = (): boolean =>
    tether.jobs.activeCount === 0 && (wanted === undefined || JSON.stringify(held(tether)) === JSON.stringify(wanted))
  while (!isSettled() && performance.now() < deadlineMs) await turn(5)
  for (let round = 0; round < 4; round += 1) {
    globalThis.gc?.()
    await turn(5)
  }
  return { held: held(tether), heapBytes: process.memoryUsage().heapUsed }
}

function turn(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Numbers from 0 to 1, the same at every run. */
function* dice(): Generator<number, never> {
  for (let state = 42; ; ) {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32
    yield state / 2 ** 32
  }
}

const random = dice()

async function one(tether: Tether, task: string): Promise<void> {
  const holder = tether.jobs.openHolder()
  const when = random.next().value
  const input = task === 'command' ? { command: 'sleep 60 & sleep 60' } : null
  const leaving = when < 0.2 ? undefined : turn(when * 15).then(() => holder.leave('client_disconnected'))
  if (leaving === undefined) holder.leave('client_disconnected')
  const { ref } = await tether.jobs.start({
    spec: { task, input, policy: { onDisconnect: when > 0.8 ? 'stop' : 'cancel', leaseMs: 60_000 }, metadata: {} },
    fingerprint: '',
    caller: CALLER,
    holder,
  })
  const abort = new AbortController()
  await Promise.all([leaving, tether.jobs.outcome(ref, abort.signal)])
}

async function crowd(tether: Tether, howMany: number, taskOf: (n: number) => string): Promise<void> {
  let started = 0
  const lane = async (): Promise<void> => {
    while (started < howMany) {
      started += 1
      await one(tether, taskOf(started))
    }
  }
  await Promise.all(Array.from({ length: CROWD }, lane))
}

const config = readConfig({ PORT: '0', DATA_DIR: dataDir, CONTAINMENT: 'group', LOG_LEVEL: 'silent' })
const tether = await openTether({
  config,
  logger: pino({ level: 'silent' }),
  serverEnv: process.env,
  cwd: dataDir,
  tasks: [busy, parent],
})
const half = Math.floor(Number(jobs) / 2)
const inProcess = (n: number): string => (n % 10 === 0 ? 'parent' : 'busy')
// Whatever is made once is made now.
await crowd(tether, 1000, inProcess)
await crowd(tether, 4, () => 'command')
const before = await settle(tether)
await crowd(tether, half, inProcess)
const middle = await settle(tether)
await crowd(tether, half, inProcess)
const after = await settle(tether, middle.held)
await crowd(tether, Number(commands), () => 'command')
const last = await settle(tether, middle.held)
process.stdout.write(`${JSON.stringify({ before, middle, after, last })}\n`)
await tether.stop()
