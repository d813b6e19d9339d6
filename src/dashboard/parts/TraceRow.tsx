import type { JSX } from 'preact'
import type { Json } from '../../job/json.ts'
import type { Usage } from '../../job/receipt.ts'
import { bytesText, countText, durationText, lineText, timeText } from '../format.ts'
import { jobHash } from '../Route.ts'
import type { Row } from '../trace/row.ts'
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
          <span class="event-end">{row.end === undefined ? <Busy /> : usageText(row.end.usage, tookOf(row))}</span>
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
          <span class="event-end">{row.status === undefined ? <Busy /> : <StatusChip status={row.status} />}</span>
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
  const state = end === undefined ? 'open' : end.ok ? 'ok' : 'bad'
  return (
    <details class={`event tool tool-${state}`} {...unfolding(row)}>
      <summary>
        <Icon name={end === undefined ? 'tool' : end.ok ? 'check' : 'cross'} />
        <bdi class="tool-name">{lineText(row.tool)}</bdi>
        <span class="muted brief">{briefOf(row.input)}</span>
        <span class="event-end muted">{end === undefined ? <Busy /> : durationText(tookOf(row))}</span>
      </summary>
      <ValueText value={row.input} />
      {end !== undefined && <pre class="value">{end.summary}</pre>}
    </details>
  )
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

function Busy(): JSX.Element {
  return (
    <span class="busy">
      <span class="visually-hidden">under way</span>
    </span>
  )
}

function tookOf({
  startedAt,
  end,
}: {
  readonly startedAt: string
  readonly end: { readonly at: string } | undefined
}): number {
  return end === undefined ? 0 : Math.max(0, Date.parse(end.at) - Date.parse(startedAt))
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
