import type { JSX } from 'preact'
import type { Cancellation } from '../../job/cancellation.ts'
import type { Receipt } from '../../job/receipt.ts'
import type { JobView } from '../../job/view.ts'
import { countText, durationText, lineText, timeText } from '../format.ts'
import { CAUSES } from '../jobs/causes.ts'
import { Icon } from './Icon.tsx'

type StepState = 'done' | 'waiting' | 'not-needed' | 'bad'

interface Step {
  readonly name: string
  readonly state: StepState
  readonly detail: string
}

/** How a job was ended: asked, aborted, killed, verified, each with what it took. */
export function StopTimeline({ job }: { readonly job: JobView }): JSX.Element | null {
  const { stop, cancellation, receipt } = job
  const asked = cancellation ?? stop
  if (asked === undefined) return null
  const steps = cancellation === undefined ? stopSteps(asked, job) : cancelSteps(cancellation, job)
  return (
    <section class="panel" aria-labelledby="receipt-title">
      <div class="panel-head">
        <h2 id="receipt-title">{cancellation === undefined ? 'Stop' : 'Cancel'}</h2>
        {receipt !== undefined && (
          <span class={`chip ${receipt.confirmed ? 'chip-succeeded' : 'chip-failed'}`}>
            <Icon name={receipt.confirmed ? 'check' : 'question'} />
            {receipt.confirmed ? 'Confirmed' : 'Not confirmed'}
          </span>
        )}
      </div>
      <ol class="timeline">
        {steps.map(({ name, state, detail }) => (
          <li key={name} class={`step step-${state}`}>
            <span class="step-name">
              {name}
              {state === 'waiting' && <span class="visually-hidden"> (under way)</span>}
            </span>
            <span class="step-detail">{detail}</span>
          </li>
        ))}
      </ol>
      <p class="asked-by">{askedText(asked)}</p>
      {receipt !== undefined && <Released receipt={receipt} />}
    </section>
  )
}

function cancelSteps(cancellation: Cancellation, { receipt, terminal, stop }: JobView): readonly Step[] {
  const first = stop === undefined ? [] : [askedStep('Stop asked', stop)]
  const asked = askedStep(stop === undefined ? 'Asked' : 'Cancel asked', cancellation)
  if (receipt === undefined) {
    const state = terminal ? 'not-needed' : 'waiting'
    const rest: Step[] = ['Aborted', 'Killed', 'Verified'].map((name) => ({ name, state, detail: '' }))
    return [...first, asked, ...rest]
  }
  const { requestedToAbortedMs, abortedToKilledMs, killedToVerifiedMs, abortedToSettledMs, confirmed } = receipt
  return [
    ...first,
    asked,
    timed('Aborted', requestedToAbortedMs, 'nothing ran'),
    timed('Killed', abortedToKilledMs, 'not needed'),
    verifiedStep(killedToVerifiedMs ?? (abortedToKilledMs === null ? abortedToSettledMs : null), confirmed),
  ]
}

/** Nothing is aborted: the work in flight finishes, and the next boundary raises. */
function stopSteps(stop: Cancellation, { receipt, endedAt, status }: JobView): readonly Step[] {
  const asked = askedStep('Asked', stop)
  if (endedAt === undefined) {
    return [
      asked,
      { name: 'Work in flight', state: 'waiting', detail: 'finishing' },
      { name: 'Stopped', state: 'waiting', detail: '' },
    ]
  }
  const tookMs = Math.max(0, Date.parse(endedAt) - Date.parse(stop.requestedAt))
  if (status !== 'stopped') {
    return [asked, { name: 'No boundary met', state: 'not-needed', detail: 'the function returned before one' }]
  }
  return [
    asked,
    { name: 'Stopped', state: 'done', detail: `after ${durationText(tookMs)}` },
    ...(receipt === undefined ? [] : [verifiedStep(null, receipt.confirmed)]),
  ]
}

function askedStep(name: string, { requestedAt }: Cancellation): Step {
  return { name, state: 'done', detail: timeText(requestedAt) }
}

function timed(name: string, ms: number | null, without: string): Step {
  if (ms === null) return { name, state: 'not-needed', detail: without }
  return { name, state: 'done', detail: `+${durationText(ms)}` }
}

function verifiedStep(ms: number | null, confirmed: boolean): Step {
  if (!confirmed) return { name: 'Not verified', state: 'bad', detail: 'something may be left' }
  return { name: 'Verified', state: 'done', detail: ms === null ? 'nothing is left' : `+${durationText(ms)}` }
}

function askedText({ cause, by, phase, reason }: Cancellation): JSX.Element {
  return (
    <>
      {CAUSES[cause]}
      {by !== undefined && (
        <>
          {' by '}
          <bdi>{lineText(by)}</bdi>
        </>
      )}
      , during <bdi class="mono">{lineText(phase)}</bdi>
      {reason !== '' && (
        <>
          {': '}
          <bdi>{lineText(reason)}</bdi>
        </>
      )}
    </>
  )
}

/** What was released, by the receipt's names: one of it, and several. */
const NAMES: Readonly<Record<string, readonly [string, string]>> = {
  processes: ['process', 'processes'],
  requests: ['request', 'requests'],
  files: ['file', 'files'],
  children: ['sub-agent', 'sub-agents'],
  other: ['other thing', 'other things'],
}

function Released({ receipt }: { readonly receipt: Receipt }): JSX.Element {
  const { released, survivors, containment, abortedToSettledMs, recorded } = receipt
  const counts = Object.entries(released).filter(([, count]) => count > 0)
  const gone = counts
    .map(([kind, count]) => `${countText(count)} ${NAMES[kind]?.[count === 1 ? 0 : 1] ?? lineText(kind)}`)
    .join(', ')
  return (
    <dl class="facts">
      <dt>Released</dt>
      <dd>{gone === '' ? 'nothing was held' : gone}</dd>
      <dt>Containment</dt>
      <dd>
        {lineText(containment.level)}, {containment.complete ? 'complete' : 'not complete'}
      </dd>
      {abortedToSettledMs !== null && (
        <>
          <dt>Settled</dt>
          <dd>{durationText(abortedToSettledMs)} after the abort</dd>
        </>
      )}
      {survivors.length > 0 && (
        <>
          <dt>Still there</dt>
          <dd class="bad-text">
            {survivors.map(({ pid, command }) => (
              <div key={pid} class="mono">
                {pid} {lineText(command)}
              </div>
            ))}
          </dd>
        </>
      )}
      {recorded === false && (
        <>
          <dt>Recorded</dt>
          <dd>not yet: the store is slow or failed</dd>
        </>
      )}
    </dl>
  )
}
