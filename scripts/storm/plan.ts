import type { Json } from '../../src/job/json.ts'
import type { Random } from './random.ts'
import { endlessWork, type ShortWork, shortWork, type Work } from './work.ts'

/**
 * How a connection is left: FIN with the other half still open, FIN by closing (which becomes RST where something unread has
 * come), or RST at once.
 */
export type Leave = 'end' | 'destroy' | 'reset'

/** An outcome that may come of a stream: the job's status and what caused it, or that there is no job. */
export type Outcome = 'no job' | 'succeeded' | 'failed' | `${'cancelled' | 'stopped'} by ${string}`

const GONE = 'cancelled by client_disconnected'
const CANCELLED = 'cancelled by cancel_requested'
const STOPPED = 'stopped by stop_requested'

/**
 * The moments at which streams are ended, how often each is planned, and what may come of it. A request that a client sent and
 * then reset may never be read, so only there a job and no job are both right.
 */
export const MOMENTS = {
  'request half sent': { weight: 6, work: 'endless', allowed: ['no job'] },
  'before the first byte': { weight: 9, work: 'endless', allowed: ['no job', GONE] },
  'while queued': { weight: 10, work: 'endless', allowed: [GONE] },
  'at the start': { weight: 10, work: 'endless', allowed: [GONE] },
  'in the middle': { weight: 18, work: 'endless', allowed: [GONE] },
  'while waiting, no stream': { weight: 5, work: 'endless', allowed: [GONE] },
  'near the end': { weight: 9, work: 'short', allowed: ['succeeded', 'failed', GONE] },
  'left to finish': { weight: 10, work: 'short', allowed: [] },
  cancelled: { weight: 6, work: 'endless', allowed: [CANCELLED] },
  'cancelled twice at once': { weight: 6, work: 'endless', allowed: [CANCELLED] },
  'cancelled and dropped': { weight: 5, work: 'endless', allowed: [CANCELLED, GONE] },
  'cancelled near the end': { weight: 5, work: 'short', allowed: ['succeeded', 'failed', CANCELLED] },
  stopped: { weight: 6, work: 'endless', allowed: [STOPPED] },
  'stopped and dropped': { weight: 4, work: 'endless', allowed: [STOPPED, GONE] },
  'dropped, policy stop': { weight: 4, work: 'endless', allowed: ['stopped by client_disconnected'] },
  'dropped, policy continue': { weight: 4, work: 'short', allowed: [] },
  'dropped, with grace': { weight: 4, work: 'endless', allowed: [GONE] },
  'dropped and taken over': { weight: 4, work: 'short', allowed: [] },
  'cancelled before the start': { weight: 5, work: 'endless', allowed: [CANCELLED] },
  'stopped before the start': { weight: 3, work: 'endless', allowed: [STOPPED] },
  'cancelled with the start': { weight: 5, work: 'endless', allowed: [CANCELLED] },
} as const satisfies Record<
  string,
  { readonly weight: number; readonly work: 'endless' | 'short'; readonly allowed: readonly Outcome[] }
>

export type Moment = keyof typeof MOMENTS

/** One stream of the storm, decided before it begins, so that the same seed makes the same one again. */
export interface PlannedStream {
  readonly index: number
  readonly moment: Moment
  readonly work: Work
  /** Undefined: the server mints one. */
  readonly jobId: string | undefined
  readonly policy: { readonly [key: string]: Json }
  readonly leave: Leave
  /** From what the moment waits for to the leaving or the request. */
  readonly delayMs: number
  /** How much of the request is sent, where it is not sent whole. */
  readonly requestShare: number
  readonly allowed: readonly Outcome[]
}

/** After it a stop becomes a cancel: soon where nothing else ends the work, else never within a storm. */
const STOP_DEADLINE_MS = { deaf: 400, heeding: 600_000 }
/** Soon over for whoever waits for it, long enough for another to take over. */
export const GRACE_MS = 200
const TAKE_OVER_GRACE_MS = 10_000

export function planStorm(
  random: Random,
  options: {
    readonly streams: number
    readonly run: string
    readonly isComplete: boolean
    /** Stands in the command line of every process of the stream of this number. */
    readonly wordOf: (index: number) => string
  },
): readonly PlannedStream[] {
  // Object.entries knows keys as `string` only.
  const weights = Object.fromEntries(Object.entries(MOMENTS).map(([moment, { weight }]) => [moment, weight])) as Record<
    Moment,
    number
  >
  return Array.from({ length: options.streams }, (_, index) => {
    const moment = random.weighted(weights)
    const word = options.wordOf(index)
    const short = MOMENTS[moment].work === 'short' ? shortWork(random, word) : undefined
    const work = short ?? endlessWork(random, word, options)
    const mustMint = moment.endsWith('the start') && moment !== 'at the start'
    return {
      index,
      moment,
      work,
      jobId: mustMint || random.next() < 0.5 ? `${options.run}-${index}` : undefined,
      policy: policyOf(moment, work),
      leave: random.pick<Leave>(['end', 'destroy', 'reset']),
      delayMs: delayOf(moment, short, random),
      requestShare: 0.05 + random.next() * 0.9,
      allowed: allowedOf(moment, work, short),
    }
  })
}

function policyOf(moment: Moment, work: Work): PlannedStream['policy'] {
  const stopDeadlineMs = work.isDeaf === true ? STOP_DEADLINE_MS.deaf : STOP_DEADLINE_MS.heeding
  switch (moment) {
    case 'dropped, policy stop':
      return { onDisconnect: 'stop', stopDeadlineMs }
    case 'dropped, policy continue':
      return { onDisconnect: 'continue' }
    case 'dropped, with grace':
      return { disconnectGraceMs: GRACE_MS }
    case 'dropped and taken over':
      return { disconnectGraceMs: TAKE_OVER_GRACE_MS }
    case 'stopped':
    case 'stopped and dropped':
      return { stopDeadlineMs }
    default:
      return {}
  }
}

function delayOf(moment: Moment, short: ShortWork | undefined, random: Random): number {
  switch (moment) {
    case 'request half sent':
    case 'before the first byte':
    case 'at the start':
      return random.pick([0, 0, 1])
    case 'while queued':
    case 'cancelled with the start':
      return random.whole(0, 20)
    case 'near the end':
    case 'cancelled near the end':
      return Math.max(0, (short?.lastsMs ?? 0) + random.whole(-5, 10))
    case 'dropped, policy continue':
    case 'dropped and taken over':
      return random.whole(0, 20)
    default:
      return random.whole(0, 500)
  }
}

function allowedOf(moment: Moment, work: Work, short: ShortWork | undefined): readonly Outcome[] {
  const { allowed } = MOMENTS[moment]
  if (allowed.length === 0) return [short?.outcome ?? 'succeeded']
  // What is deaf ends when the stop's deadline makes a cancel of it, unless it was still queued or had not shut its ears yet.
  return work.isDeaf === true && allowed.some((outcome) => outcome.startsWith('stopped'))
    ? [...allowed, 'cancelled by stop_deadline']
    : allowed
}
