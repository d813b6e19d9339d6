import type { ExecutionLimits } from '../Execution.ts'

/**
 * How long after a cancel the process of a function that has not settled is killed: `settleMs` less what killing it and looking
 * take, so that the job has ended when `settleMs` are over.
 */
export function killAfterMs(settleMs: number): number {
  return settleMs - Math.min(250, Math.max(50, settleMs / 10))
}

/** A machine that is so busy that a kill takes this much longer still has killed: only what cannot be killed is abandoned. */
const KILL_ALLOWANCE_MS = 2000

/** The limits of the execution in the server: the function itself has ended after `killAfterMs`, whatever it does. */
export function withKillAllowance(limits: ExecutionLimits): ExecutionLimits {
  return { ...limits, settleMs: limits.settleMs + KILL_ALLOWANCE_MS }
}
