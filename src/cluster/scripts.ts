import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isTerminal, STATUSES } from '../job/status.ts'
import {
  FIRST_REQUESTS_OF_JOB,
  FIRST_REQUESTS_OF_STRAY,
  MAX_REQUESTS_OF_JOB,
  MAX_REQUESTS_OF_STRAY,
  MAX_STRAYS,
  STRAY_MS,
} from '../store/requestLimits.ts'

/** A script that Redis runs as one step. `sha` is the name under which it keeps it. */
export interface Script {
  readonly text: string
  readonly sha: string
}

/** How long Redis remembers what a process committed after its last sign of life: what became of a commit is asked for until then. */
const SESSION_MS = 24 * 3_600_000

const CONSTANTS = [
  `local ACTIVE = { ${STATUSES.filter((status) => !isTerminal(status))
    .map((status) => `${status} = true`)
    .join(', ')} }`,
  `local SESSION_MS = ${SESSION_MS}`,
  `local MAX_REQUESTS_OF_JOB, FIRST_REQUESTS_OF_JOB = ${MAX_REQUESTS_OF_JOB}, ${FIRST_REQUESTS_OF_JOB}`,
  `local MAX_REQUESTS_OF_STRAY, FIRST_REQUESTS_OF_STRAY = ${MAX_REQUESTS_OF_STRAY}, ${FIRST_REQUESTS_OF_STRAY}`,
  `local MAX_STRAYS, STRAY_MS = ${MAX_STRAYS}, ${STRAY_MS}`,
].join('\n')

/** Refused where Redis has used all the memory that it may. */
export const COMMIT = scriptOf('', 'requests', 'limits', 'commit')
/** The same, and never refused for want of memory. */
export const COMMIT_ALWAYS = scriptOf('allow-oom', 'requests', 'limits', 'commit')
export const FENCE = scriptOf('allow-oom', 'fence')
export const LIST = scriptOf('no-writes', 'list')
export const HEADS = scriptOf('no-writes', 'heads')

// What ends jobs, or gives memory back, is never refused for want of it.
export const ASK = scriptOf('allow-oom', 'requests', 'ask')
export const SEAL = scriptOf('allow-oom', 'requests', 'each', 'seal')
export const CLAIM = scriptOf('', 'requests', 'limits', 'each', 'claim')
export const HOLD = scriptOf('', 'requests', 'hold')
export const LEAVE = scriptOf('allow-oom', 'requests', 'leave')
export const GIVE_BACK = scriptOf('allow-oom', 'requests', 'limits', 'giveBack')
export const LET_GO = scriptOf('allow-oom', 'requests', 'letGo')
export const BEAT = scriptOf('allow-oom', 'requests', 'beat')
export const TAKE_DEAD = scriptOf('allow-oom', 'requests', 'takeDead')
export const FORGET_REPLICA = scriptOf('allow-oom', 'requests', 'forgetReplica')
export const ADMIT = scriptOf('allow-oom', 'requests', 'limits', 'admit')
export const NOTE_QUEUED = scriptOf('allow-oom', 'requests', 'each', 'noteQueued')
export const TAKE_TURNS = scriptOf('allow-oom', 'takeTurns')
export const NOTE_UNQUEUED = scriptOf('', 'requests', 'noteUnqueued')
export const DUE = scriptOf('no-writes', 'requests', 'due')

/**
 * One script of the files of these names, one behind the other. The flags are those of Redis 7
 * (https://redis.io/docs/latest/develop/programmability/eval-intro/#script-flags).
 */
function scriptOf(flags: '' | 'allow-oom' | 'no-writes', ...names: readonly string[]): Script {
  const lua = names.map((name) => readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8'))
  const text = `#!lua flags=${flags}\n${CONSTANTS}\n${lua.join('\n')}`
  return { text, sha: createHash('sha1').update(text).digest('hex') }
}
