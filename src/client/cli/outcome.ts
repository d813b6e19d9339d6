import type { JobEvent } from '../../job/event.ts'
import type { Failure } from '../../job/failure.ts'
import type { Receipt, Released } from '../../job/receipt.ts'
import type { TerminalStatus } from '../../job/status.ts'
import type { JobView } from '../../job/view.ts'
import { plainLine } from '../plainText.ts'
import { isTerminalStatus, outcomeOfEvent } from '../terminal.ts'
import { countText, usageText } from './usageText.ts'

/** How a job ended, from its last event or from its record. */
export interface Outcome {
  readonly status: TerminalStatus
  readonly receipt: Receipt | undefined
  readonly failure: Failure | undefined
}

export function outcomeIn(event: JobEvent): Outcome | undefined {
  const status = outcomeOfEvent(event.type)
  if (status === undefined) return undefined
  return {
    status,
    receipt: 'receipt' in event ? event.receipt : undefined,
    failure: 'failure' in event ? event.failure : undefined,
  }
}

export function outcomeOf(job: JobView): Outcome | undefined {
  const { status, receipt, failure } = job
  return isTerminalStatus(status) ? { status, receipt, failure } : undefined
}

/** One line, such as `cancelled: 13 processes gone, confirmed in 2.4 ms (pidns)`. */
export function outcomeLine({ status, receipt, failure }: Outcome): string {
  const said = failure === undefined ? [] : [`${plainLine(failure.message)} (${plainLine(failure.code)})`]
  const measured = receipt === undefined ? [] : [receiptText(receipt)]
  const name = statusText(status)
  const details = [...said, ...measured].join(': ')
  return details === '' ? name : `${name}: ${details}`
}

/** What is said of something that was open when its job ended so, such as `cancelled`. */
export function endWord(status: TerminalStatus): string {
  return status === 'succeeded' || status === 'failed' ? 'not finished' : statusText(status)
}

function statusText(status: TerminalStatus): string {
  return status.replace('_', ' ')
}

function receiptText(receipt: Receipt): string {
  const { level, complete } = receipt.containment
  const where = complete ? level : `${level}, which a process can leave`
  const recorded = receipt.recorded === false ? ', not recorded yet' : ''
  const usage = usageText(receipt.usage ?? {})
  const used = usage === '' ? '' : `; ${usage}`
  return `${releasedText(receipt.released)}, ${confirmedText(receipt)} (${where})${recorded}${used}`
}

function releasedText(released: Released): string {
  const counted = [
    countOf(released.processes, 'process', 'processes'),
    countOf(released.requests, 'request'),
    countOf(released.files, 'file'),
    countOf(released.children, 'child job'),
    countOf(released.other, 'other thing'),
  ].filter((text) => text !== '')
  return counted.length === 0 ? 'nothing was held' : `${counted.join(', ')} gone`
}

function countOf(number: number, one: string, many?: string): string {
  return number === 0 ? '' : countText(number, one, many)
}

function confirmedText(receipt: Receipt): string {
  if (receipt.confirmed) {
    const tookMs = durationMs(receipt)
    return tookMs === undefined ? 'confirmed' : `confirmed in ${tookMs.toFixed(tookMs < 100 ? 1 : 0)} ms`
  }
  if (receipt.survivors.length === 0) return 'NOT confirmed'
  const survivors = receipt.survivors.map(({ pid, command }) => `${pid} ${plainLine(command)}`)
  return `NOT confirmed, still there: ${survivors.join('; ')}`
}

/** From the request to the later of two ends: the check of the processes, and the function's settling. */
function durationMs(receipt: Receipt): number | undefined {
  const { requestedToAbortedMs, abortedToKilledMs, killedToVerifiedMs, abortedToSettledMs } = receipt
  const steps = [requestedToAbortedMs, abortedToKilledMs, killedToVerifiedMs, abortedToSettledMs]
  if (steps.every((step) => step === null)) return undefined
  return (
    (requestedToAbortedMs ?? 0) +
    Math.max((abortedToKilledMs ?? 0) + (killedToVerifiedMs ?? 0), abortedToSettledMs ?? 0)
  )
}
