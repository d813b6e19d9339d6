import type { JSX } from 'preact'
import { useMemo } from 'preact/hooks'
import { escapeControls } from '../../client/plainText.ts'
import type { Json } from '../../job/json.ts'
import { countText } from '../format.ts'

const MAX_CHARS = 20_000

/** A value as JSON, cut where nobody reads on. */
export function ValueText({ value }: { readonly value: Json }): JSX.Element {
  // It may be a MiB, and the page around it is drawn anew with every event.
  const text = useMemo(() => escapeControls(JSON.stringify(value, null, 2) ?? ''), [value])
  return (
    <pre class="value">
      {text.slice(0, MAX_CHARS)}
      {text.length > MAX_CHARS && <span class="muted">{`\n… ${countText(text.length)} characters in all`}</span>}
    </pre>
  )
}
