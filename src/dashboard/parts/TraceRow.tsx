import type { JSX } from 'preact'
import { TerminalFilter } from '../../client/TerminalFilter.ts'
import type { Json } from '../../job/json.ts'
import type { Usage } from '../../job/receipt.ts'
import { useDashboard } from '../Dashboard.ts'
import { bytesText, countText, durationText, lineText, timeText } from '../format.ts'
import { jobHash } from '../Route.ts'
import { type ChildRow, CUT, type Row } from '../trace/row.ts'
import { useChanges } from '../useChanges.ts'
import { Icon } from './Icon.tsx'
import { StatusChip } from './StatusChip.tsx'
import { ValueText } from './ValueText.tsx'

/** All that stands here was written by a task: it is text, whatever it holds. */
export function TraceRow({ row }: { readonly row: Row }): JSX.Element {
  switch (row.kind) {
    case 'text':
      return <pre class={`text text-${row.channel}`}>{row.text.replace(/\n$/, '')}</pre>
    case 'tool':
      return <ToolRow row={row} />
    case 'model':
      return (
        <p class="event muted">
          <Icon name="model" />
          <bdi>{lineText(row.model)}</bdi>
          <span class="event-end">
            {typeof row.end === 'object' ? (
              usageText(row.end.usage, tookMs(row.startedAt, row.end.at))
            ) : (
              <Open end={row.end} />
            )}
          </span>
        </p>
      )
    case 'child':
      return (
        <p class="event">
          <Icon name="child" />
          <a href={jobHash(row.childId)}>
            <bdi>{lineText(row.task)}</bdi>
          </a>
          <span class="muted mono event-id">{lineText(row.childId)}</span>
          <span class="event-end">
            <ChildStatus row={row} />
          </span>
        </p>
      )
    case 'data':
      return (
        <details class="event" {...unfolding(row)}>
          <summary>
            <Icon name="data" />
            <bdi>{lineText(row.name)}</bdi>
            <span class="muted brief">{briefOf(row.value)}</span>
          </summary>
          <ValueText value={row.value} />
        </details>
      )
    case 'artifact':
      return (
        <p class="event">
          <Icon name="file" />
          <bdi>{lineText(row.name)}</bdi>
          <span class="muted">
            {lineText(row.path)}, {bytesText(row.bytes)}
          </span>
        </p>
      )
    case 'note':
      return (
        <p class={`event note note-${row.tone}`}>
          <time dateTime={row.at}>{timeText(row.at)}</time>
          <bdi>{lineText(row.text)}</bdi>
        </p>
      )
    default:
      row satisfies never
      return <></>
  }
}

function ToolRow({ row }: { readonly row: Extract<Row, { kind: 'tool' }> }): JSX.Element {
  const { end } = row
  const state = typeof end === 'object' ? (end.ok ? 'ok' : 'bad') : (end ?? 'open')
  return (
    <details class={`event tool tool-${state}`} {...unfolding(row)}>
      <summary>
        <Icon name={TOOL_ICONS[state]} />
        <bdi class="tool-name">{lineText(row.tool)}</bdi>
        <span class="muted brief">{briefOf(row.input)}</span>
        <span class="event-end muted">
          {typeof end === 'object' ? durationText(tookMs(row.startedAt, end.at)) : <Open end={end} />}
        </span>
      </summary>
      <ValueText value={row.input} />
      {typeof end === 'object' && <pre class="value">{withoutControls(end.summary)}</pre>}
    </details>
  )
}

function withoutControls(text: string): string {
  return new TerminalFilter({ keepsColours: false }).filter(text)
}

/** A row that is scrolled out of view is taken out of the page: it is unfolded again when it comes back. */
function unfolding(row: Row): { open: boolean; onToggle: (event: { currentTarget: HTMLDetailsElement }) => void } {
  return {
    open: row.isOpen,
    onToggle: ({ currentTarget }) => {
      row.isOpen = currentTarget.open
    },
  }
}

const TOOL_ICONS = { open: 'tool', cut: 'tool', ok: 'check', bad: 'cross' } as const

/** A sub-agent that its parent's end took with it says of itself how it ended. */
function ChildStatus({ row }: { readonly row: ChildRow }): JSX.Element {
  const { table } = useDashboard()
  useChanges(table.changes)
  const status = row.status ?? table.get(row.childId)?.status
  return status === undefined ? <Open end={undefined} /> : <StatusChip status={status} />
}

function Open({ end }: { readonly end: typeof CUT | undefined }): JSX.Element {
  if (end === CUT) return <span class="muted">ended with the job</span>
  return (
    <span class="busy">
      <span class="visually-hidden">under way</span>
    </span>
  )
}

function tookMs(startedAt: string, endedAt: string): number {
  return Math.max(0, Date.parse(endedAt) - Date.parse(startedAt))
}

function usageText(usage: Usage | undefined, tookMs: number): string {
  const { inputTokens, outputTokens, totalTokens } = usage ?? {}
  const tokens = totalTokens ?? (inputTokens ?? 0) + (outputTokens ?? 0)
  return tokens === 0 ? durationText(tookMs) : `${countText(tokens)} tokens, ${durationText(tookMs)}`
}

const MAX_BRIEF_CHARS = 160

/** A value in one line: what it holds matters more than its form. */
function briefOf(value: Json): string {
  if (typeof value !== 'object' || value === null) return lineText(String(value).slice(0, MAX_BRIEF_CHARS))
  const members = Object.values(value).filter((member) => typeof member !== 'object')
  return lineText(members.map((member) => String(member).slice(0, MAX_BRIEF_CHARS)).join(' · ')).slice(
    0,
    MAX_BRIEF_CHARS,
  )
}
