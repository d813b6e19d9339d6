import { Component, type JSX } from 'preact'
import { useRef } from 'preact/hooks'
import { countText } from '../format.ts'
import type { JobWatch } from '../jobs/JobWatch.ts'
import type { Row } from '../trace/row.ts'
import { useChanges } from '../useChanges.ts'
import { Icon } from './Icon.tsx'
import { TraceRow } from './TraceRow.tsx'
import { useFollow } from './useFollow.ts'
import { useElementVirtual } from './useVirtual.ts'

const LINE_PX = 20
const ROW_PX = 34

/** What a job's stream says, as it comes. It stays at its end until someone scrolls away from there. */
export function Transcript({ watch }: { readonly watch: JobWatch }): JSX.Element {
  useChanges(watch.changes)
  const scroller = useRef<HTMLDivElement>(null)
  const { trace } = watch
  const { rows, dropped } = trace
  const follow = useFollow(scroller)
  const virtual = useElementVirtual({
    count: rows.length,
    element: () => scroller.current,
    isAtEnd: follow.isAtEnd,
    estimateSize: (index) => estimateOf(rows[index]),
    getItemKey: (index) => rows[index]?.key ?? -1,
    overscan: 4,
  })
  const items = virtual.getVirtualItems()
  return (
    <div class="transcript-frame">
      <div class="transcript" ref={scroller} tabIndex={0} role="region" aria-label="Output">
        {dropped > 0 && (
          <p class="muted trace-dropped">{countText(dropped)} older entries are not shown; the server has them.</p>
        )}
        <div class="trace-rows" style={{ height: `${virtual.getTotalSize()}px` }}>
          {items.map(({ key, index, start }) => {
            const row = rows[index]
            if (row === undefined) return null
            return (
              <div
                key={key}
                data-index={index}
                ref={virtual.measureElement}
                class="trace-row"
                style={{ transform: `translateY(${start}px)` }}
              >
                <MemoRow row={row} version={row.version} />
              </div>
            )
          })}
        </div>
        {rows.length === 0 && <p class="muted trace-empty">Nothing yet.</p>}
      </div>
      {!follow.isAtEnd() && (
        <button type="button" class="button to-end" onClick={follow.toEnd}>
          <Icon name="down" />
          To the end
        </button>
      )}
    </div>
  )
}

/** Rows are changed where they stand; their version says when. */
class MemoRow extends Component<{ readonly row: Row; readonly version: number }> {
  override shouldComponentUpdate({ row, version }: { readonly row: Row; readonly version: number }): boolean {
    return row !== this.props.row || version !== this.props.version
  }

  override render(): JSX.Element {
    return <TraceRow row={this.props.row} />
  }
}

function estimateOf(row: Row | undefined): number {
  return row?.kind === 'text' ? Math.max(1, row.lines) * LINE_PX : ROW_PX
}
