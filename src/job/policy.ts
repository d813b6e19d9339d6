/** What becomes of a job when its last holder is gone. */
export const DISCONNECT_POLICIES = ['cancel', 'stop', 'continue'] as const
export type OnDisconnect = (typeof DISCONNECT_POLICIES)[number]

/**
 * The rules that one job runs under. Times are whole milliseconds; 0 is none, except for `settleMs`.
 * Sources of the figures: docs/protocol.md, "Starting a job".
 */
export interface JobPolicy {
  readonly onDisconnect: OnDisconnect
  readonly disconnectGraceMs: number
  readonly leaseMs: number
  readonly timeoutMs: number
  readonly idleTimeoutMs: number
  readonly queueTimeoutMs: number
  readonly settleMs: number
  readonly stopDeadlineMs: number
  readonly priority: number
  readonly concurrencyKey: string
  readonly concurrencyLimit: number
  readonly onRestart: 'run' | 'interrupt'
}

/** How long the policy is put off once the last holder is gone; undefined where it does nothing then. */
export function graceOf({ onDisconnect, disconnectGraceMs }: JobPolicy): number | undefined {
  return onDisconnect === 'continue' ? undefined : disconnectGraceMs
}

export const MAX_DELAY_MS = 2_147_483_647
export const MAX_DISCONNECT_GRACE_MS = 3_600_000
