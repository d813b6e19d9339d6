import type { JSX } from 'preact'
import type { JobStatus } from '../../job/status.ts'
import { lineText } from '../format.ts'
import { isKnownStatus, STATUS_NAMES } from '../jobs/statuses.ts'
import { Icon, type IconName } from './Icon.tsx'

/** A stop is no failure: it is neutral, with a sign of its own, and so each end has its own. */
const ICONS = {
  queued: 'clock',
  running: 'play',
  stopping: 'pause',
  cancelling: 'pause',
  succeeded: 'check',
  failed: 'cross',
  cancelled: 'ban',
  stopped: 'square',
  timed_out: 'hourglass',
  interrupted: 'bolt',
  abandoned: 'question',
} as const satisfies Record<JobStatus, IconName>

export function StatusChip({ status }: { readonly status: string }): JSX.Element {
  if (!isKnownStatus(status)) return <span class="chip">{lineText(status)}</span>
  return (
    <span class={`chip chip-${status}`}>
      <Icon name={ICONS[status]} />
      {STATUS_NAMES[status]}
    </span>
  )
}
