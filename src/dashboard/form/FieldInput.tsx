import type { JSX } from 'preact'
import { lineText } from '../format.ts'
import { Prose } from '../parts/Prose.tsx'
import type { Field } from './Field.ts'

interface FieldInputProps {
  readonly field: Field
  readonly text: string
  readonly error: string | undefined
  readonly onText: (text: string) => void
}

/** One field with its label, what is known of it, and what is wrong with what was typed. */
export function FieldInput({ field, text, error, onText }: FieldInputProps): JSX.Element {
  const id = `field-${field.name}`
  const hint = hintOf(field)
  const describedBy = [hint === '' ? '' : `${id}-hint`, error === undefined ? '' : `${id}-error`].filter(
    (x) => x !== '',
  )
  const common = {
    id,
    name: field.name,
    'aria-required': field.isRequired,
    'aria-invalid': error !== undefined,
    ...(describedBy.length === 0 ? {} : { 'aria-describedby': describedBy.join(' ') }),
  }
  return (
    <div class={`field ${error === undefined ? '' : 'field-wrong'}`}>
      {field.kind === 'boolean' ? (
        <label class="check" for={id}>
          <input
            {...common}
            type="checkbox"
            checked={text === 'true'}
            onChange={({ currentTarget }) => onText(String(currentTarget.checked))}
          />
          {lineText(field.name)}
        </label>
      ) : (
        <>
          <label for={id}>
            {lineText(field.name)}
            {!field.isRequired && <span class="muted"> optional</span>}
          </label>
          <Box field={field} text={text} onText={onText} common={common} />
        </>
      )}
      {hint !== '' && (
        <p class="hint" id={`${id}-hint`}>
          <Prose text={hint} />
        </p>
      )}
      {error !== undefined && (
        <p class="error" id={`${id}-error`}>
          {lineText(field.name)} {error}
        </p>
      )}
    </div>
  )
}

interface BoxProps extends Pick<FieldInputProps, 'field' | 'text' | 'onText'> {
  readonly common: Readonly<Record<string, string | boolean>>
}

function Box({ field, text, onText, common }: BoxProps): JSX.Element {
  const onInput = ({ currentTarget }: { currentTarget: HTMLInputElement | HTMLTextAreaElement }): void =>
    onText(currentTarget.value)
  switch (field.kind) {
    case 'number':
      // No `type=number`: what is no number such a box keeps to itself, and the field would count as left empty.
      return (
        <input
          {...common}
          type="text"
          inputMode={field.isInteger ? 'numeric' : 'decimal'}
          autocomplete="off"
          value={text}
          onInput={onInput}
        />
      )
    case 'choice':
      return (
        <select {...common} value={text} onChange={({ currentTarget }) => onText(currentTarget.value)}>
          <option value="">{field.isRequired ? 'Choose…' : 'Left out'}</option>
          {field.values.map((value) => {
            const json = JSON.stringify(value)
            return (
              <option key={json} value={json}>
                {lineText(typeof value === 'string' ? value : json)}
              </option>
            )
          })}
        </select>
      )
    case 'text':
      if (field.isSecret) return <input {...common} type="password" autocomplete="off" value={text} onInput={onInput} />
      if (!field.isLong) return <input {...common} type="text" spellcheck={false} value={text} onInput={onInput} />
      return <textarea {...common} rows={3} spellcheck={false} value={text} onInput={onInput} />
    default:
      return <textarea {...common} class="mono" rows={3} spellcheck={false} value={text} onInput={onInput} />
  }
}

function hintOf(field: Field): string {
  const form = field.kind === 'number' ? rangeOf(field) : (FORMS[field.kind] ?? '')
  return [lineText(field.description), form].filter((text) => text !== '').join(' ')
}

function rangeOf({ minimum, maximum }: Extract<Field, { kind: 'number' }>): string {
  if (minimum !== undefined && maximum !== undefined) return `From ${minimum} to ${maximum}.`
  if (minimum !== undefined) return `From ${minimum}.`
  return maximum === undefined ? '' : `Up to ${maximum}.`
}

const FORMS: Readonly<Partial<Record<Field['kind'], string>>> = {
  lines: 'One a line.',
  pairs: 'One NAME=VALUE a line.',
  json: 'As JSON.',
}
