import { plainLine } from '../plainText.ts'
import type { Loss, Recovery } from '../Reconnect.ts'

/** Such as `connection lost: job job_1, after event 12 (other side closed); trying for 10 s to come back`. */
export function lostLine(loss: Loss): string {
  return `connection lost: ${placeOf(loss)}${causeOf(loss.cause)}; trying for ${seconds(loss.tryForMs)} to come back`
}

/** Such as `connected again after 0.4 s: job job_1, after event 12`. */
export function backLine(recovery: Recovery): string {
  return `connected again after ${seconds(recovery.afterMs)}: ${placeOf(recovery)}`
}

/** Such as `child job job_1 is not shown to its end (other side closed)`. */
export function childLostLine(childId: string, cause: unknown): string {
  return `child job ${plainLine(childId)} is not shown to its end${causeOf(cause)}`
}

function placeOf({ jobId, lastSeq }: Pick<Loss, 'jobId' | 'lastSeq'>): string {
  return `job ${jobId ?? 'without an id yet'}, ${lastSeq === 0 ? 'before its first event' : `after event ${lastSeq}`}`
}

function causeOf(cause: unknown): string {
  return cause instanceof Error ? ` (${plainLine(cause.message)})` : ''
}

function seconds(ms: number): string {
  return `${Number((ms / 1000).toFixed(ms < 10_000 ? 1 : 0))} s`
}
