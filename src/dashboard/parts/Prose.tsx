import type { JSX } from 'preact'
import { lineText } from '../format.ts'

/** A sentence in which names may stand between back quotes, as in the source of a task. */
export function Prose({ text }: { readonly text: string }): JSX.Element {
  const parts = lineText(text).split('`')
  return <>{parts.map((part, index) => (index % 2 === 1 && index < parts.length - 1 ? <code>{part}</code> : part))}</>
}
