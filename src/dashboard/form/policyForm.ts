import type { OnDisconnect } from '../../job/policy.ts'
import type { StartSpec } from '../api/ServerApi.ts'

/** What the form says of how a job ends, as it was typed. */
export interface PolicyTyped {
  readonly onDisconnect: OnDisconnect
  readonly graceSeconds: string
  readonly timeoutSeconds: string
}

export type PolicyField = 'graceSeconds' | 'timeoutSeconds'

type PolicyResult =
  | { readonly kind: 'ok'; readonly policy: Pick<StartSpec, 'onDisconnect' | 'disconnectGraceMs' | 'timeoutMs'> }
  | { readonly kind: 'wrong'; readonly errors: ReadonlyMap<PolicyField, string> }

/** Empty fields are the server's to fill; what is no time is told of, and never taken for no limit. */
export function policyOf({ onDisconnect, graceSeconds, timeoutSeconds }: PolicyTyped): PolicyResult {
  const isHeld = onDisconnect !== 'continue'
  const disconnectGraceMs = isHeld ? millisecondsOf(graceSeconds) : undefined
  const timeoutMs = millisecondsOf(timeoutSeconds)
  const errors = new Map<PolicyField, string>()
  if (Number.isNaN(disconnectGraceMs)) errors.set('graceSeconds', 'must be a number, 0 or more')
  if (Number.isNaN(timeoutMs) || timeoutMs === 0) errors.set('timeoutSeconds', 'must be a number above 0, or empty')
  if (errors.size > 0) return { kind: 'wrong', errors }
  return {
    kind: 'ok',
    policy: {
      onDisconnect,
      ...(disconnectGraceMs === undefined ? {} : { disconnectGraceMs }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    },
  }
}

/** Undefined where nothing was typed, NaN where it is no time. */
function millisecondsOf(seconds: string): number | undefined {
  const text = seconds.trim()
  if (text === '') return undefined
  return /^\d+(?:\.\d+)?$/.test(text) ? Math.round(Number(text) * 1000) : Number.NaN
}
