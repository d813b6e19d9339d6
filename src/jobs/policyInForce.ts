import { TetherError } from '../job/error.ts'
import type { JobPolicy } from '../job/policy.ts'

export interface PolicyDefaults {
  readonly settleMs: number
  readonly maxRunMs: number
}

/** The policy of a job from what its client asked for. Figures that a job may not exceed are capped here. */
export function policyInForce(asked: Partial<JobPolicy>, defaults: PolicyDefaults): JobPolicy {
  const onDisconnect = asked.onDisconnect ?? 'continue'
  const concurrencyKey = asked.concurrencyKey ?? ''
  const concurrencyLimit = asked.concurrencyLimit ?? 0
  if (concurrencyKey === '' && concurrencyLimit > 0) {
    throw new TetherError('TETHER_INVALID_REQUEST', 'concurrencyLimit needs a concurrencyKey, got none')
  }
  return {
    onDisconnect,
    disconnectGraceMs: asked.disconnectGraceMs ?? 0,
    leaseMs: asked.leaseMs ?? 0,
    timeoutMs: timeoutInForce(asked.timeoutMs ?? 0, onDisconnect, defaults.maxRunMs),
    idleTimeoutMs: asked.idleTimeoutMs ?? 0,
    queueTimeoutMs: asked.queueTimeoutMs ?? 0,
    settleMs: asked.settleMs ?? defaults.settleMs,
    stopDeadlineMs: asked.stopDeadlineMs ?? 120_000,
    priority: asked.priority ?? 0,
    concurrencyKey,
    concurrencyLimit,
    onRestart: asked.onRestart ?? 'run',
  }
}

/** A job that nobody holds must end some day; one that is held ends with its holder, and may run as long as that. */
export function timeoutInForce(askedMs: number, onDisconnect: JobPolicy['onDisconnect'], maxRunMs: number): number {
  if (askedMs === 0) return onDisconnect === 'continue' ? maxRunMs : 0
  return maxRunMs === 0 ? askedMs : Math.min(askedMs, maxRunMs)
}
