import type { ContainmentLevel } from '../src/job/receipt.ts'
import { Program } from './Program.ts'
import type { StopperCalls, StopTimes, Work } from './programs/stopper.ts'
import { figure, quantile, spread } from './quantile.ts'
import { formatTable } from './table.ts'

const LEVELS: readonly ContainmentLevel[] = ['cgroup', 'pidns', 'group']

/** With the default grace, processes that heed TERM end by it; without one they are killed at once. */
const GRACES = [
  { name: 'TERM first', env: {} },
  { name: 'killed at once', env: { KILL_GRACE_MS: '0' } },
]

const CANCELS = 40

const ONE = commandOf('echo up; exec sleep 600')

const TREES = [
  { name: '1 process', work: ONE, jobsBeside: 0, times: CANCELS },
  {
    name: '13 processes',
    work: commandOf('for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & done; echo up; wait'),
    jobsBeside: 0,
    times: CANCELS,
  },
  { name: 'isolated, spins, settleMs 500', work: { task: 'spin', input: {}, settleMs: 500 }, jobsBeside: 0, times: 10 },
  // The last: the jobs beside it stay.
  { name: '1 process, beside 500 jobs', work: ONE, jobsBeside: 500, times: CANCELS },
]

const STARTS = 40
/** The first ones find code that was never run before. */
const WARM_UP = 5

/**
 * From the request to cancel to the terminal event of a job whose processes were looked for and are gone, at each containment
 * level of this machine; and what the containment adds to the start of a process.
 */
export async function stop(): Promise<void> {
  const cancels: string[][] = []
  const starts: string[][] = []
  for (const level of LEVELS) {
    for (const { name, env } of GRACES) {
      await using stopper = Program.start<StopperCalls>('stopper')
      const objection = await stopper.call('open', { CONTAINMENT: level, CONCURRENCY: '1000', ...env })
      if (objection !== undefined) {
        console.log(`${level}: ${objection}`)
        break
      }
      for (const tree of TREES) {
        await stopper.call('fill', tree.jobsBeside)
        await stopper.call('cancel', { work: tree.work, times: WARM_UP })
        const times = await stopper.call('cancel', { work: tree.work, times: tree.times })
        cancels.push([level, name, tree.name, ...cellsOf(times)])
      }
      if (name === GRACES[0]?.name) starts.push(...(await startRows(stopper, level)))
    }
  }
  const spreadHead = ['p50 ms', 'p99 ms', 'max ms']
  console.log(
    formatTable(['level', 'how', 'tree', ...spreadHead, 'abort→kill p50', 'kill→proof p50', 'seen', 'proved'], cancels),
  )
  console.log('From the request to the terminal event: what was started is looked for and gone.\n')
  console.log(formatTable(['level', 'start to the first byte', ...spreadHead], starts))
}

function commandOf(command: string): Work {
  return { task: 'command', input: { command }, settleMs: 2000 }
}

function cellsOf(times: readonly StopTimes[]): readonly string[] {
  const known = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null)
  return [
    ...spread(times.map(({ askedToEnded }) => askedToEnded)),
    figure(quantile(known(times.map(({ abortedToKilled }) => abortedToKilled)), 0.5)),
    figure(quantile(known(times.map(({ killedToVerified }) => killedToVerified)), 0.5)),
    String(
      quantile(
        times.map(({ processes }) => processes),
        0.5,
      ),
    ),
    `${times.filter(({ isConfirmed }) => isConfirmed).length} of ${times.length}`,
  ]
}

async function startRows(stopper: Program<StopperCalls>, level: ContainmentLevel): Promise<readonly string[][]> {
  await stopper.call('start', { level, times: WARM_UP })
  const { bare, contained, job } = await stopper.call('start', { level, times: STARTS })
  return [
    [level, 'bare spawn', ...spread(bare)],
    ['', 'in the containment', ...spread(contained)],
    ['', 'as a job, with its log', ...spread(job)],
  ]
}
