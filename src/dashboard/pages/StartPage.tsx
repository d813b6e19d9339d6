import type { JSX } from 'preact'
import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { mintJobId } from '../../client/jobId.ts'
import type { Json } from '../../job/json.ts'
import type { TaskView } from '../api/TaskView.ts'
import { MAX_HELD } from '../api/tabs.ts'
import { useDashboard } from '../Dashboard.ts'
import type { Field } from '../form/Field.ts'
import { FieldInput } from '../form/FieldInput.tsx'
import { inputOf, inputSoFar, parseJson, refusedField, type Typed, typedOf, variantsOf } from '../form/InputForm.ts'
import { type PolicyField, type PolicyTyped, policyOf } from '../form/policyForm.ts'
import { lineText } from '../format.ts'
import { messageOf } from '../messageOf.ts'
import { Prose } from '../parts/Prose.tsx'
import { jobHash } from '../Route.ts'
import { useChanges } from '../useChanges.ts'
import { replaceHash } from '../useRoute.ts'
import { useTasks } from '../useTasks.ts'

export function StartPage({ task: asked }: { readonly task: string | undefined }): JSX.Element {
  const { tasks, failure } = useTasks()
  useEffect(() => {
    document.title = 'New job · Tether'
  }, [])
  if (tasks === undefined && failure === undefined) return <p class="message-page muted">Loading…</p>
  if (tasks === undefined) {
    return (
      <p class="message-page" role="alert">
        The server does not say which tasks there are: {failure}
      </p>
    )
  }
  const task = tasks.find(({ name }) => name === asked) ?? tasks.find(({ name }) => name === 'agent') ?? tasks[0]
  return (
    <section class="start-page">
      <h1>New job</h1>
      <fieldset class="task-cards">
        <legend class="visually-hidden">Task</legend>
        {tasks.map(({ name, description }) => (
          <label key={name}>
            <input
              type="radio"
              name="task"
              value={name}
              checked={name === task?.name}
              onChange={() => replaceHash(`#/start?${new URLSearchParams({ task: name })}`)}
            />
            <span class="task-card">
              <strong>{lineText(name)}</strong>
              {description !== undefined && (
                <span class="muted">
                  <Prose text={description} />
                </span>
              )}
            </span>
          </label>
        ))}
      </fieldset>
      {task !== undefined && <TaskForm key={task.name} task={task} />}
    </section>
  )
}

/** Long enough for a page to be loaded anew, which a server cannot tell from one that is closed. */
const RELOAD_SECONDS = '2'

function TaskForm({ task }: { readonly task: TaskView }): JSX.Element {
  const { api, held, table } = useDashboard()
  useChanges(held.changes)
  const variants = useMemo(() => variantsOf(task.input), [task])
  const [at, setAt] = useState(0)
  const [typed, setTyped] = useState<Typed>(new Map())
  const [json, setJson] = useState<string | undefined>(variants.length === 0 ? '{}' : undefined)
  const [errors, setErrors] = useState<ReadonlyMap<string, string>>(new Map())
  const [failure, setFailure] = useState<string>()
  const [isStarting, setStarting] = useState(false)
  const { isFull } = held
  useEffect(() => {
    const look = (): void => void held.lookAround()
    look()
    addEventListener('focus', look)
    return () => removeEventListener('focus', look)
  }, [])
  const [policyErrors, setPolicyErrors] = useState<ReadonlyMap<PolicyField, string>>(new Map())
  const [policy, setPolicy] = useState<PolicyTyped>({
    onDisconnect: 'cancel',
    graceSeconds: RELOAD_SECONDS,
    timeoutSeconds: '',
  })
  const form = useRef<HTMLFormElement>(null)
  const variant = variants[at]

  const policyInForce: PolicyTyped = isFull ? { ...policy, onDisconnect: 'continue' } : policy

  const focusOn = (wrong: ReadonlyMap<string, string>): void => {
    const [first = ''] = wrong.keys()
    form.current?.querySelector<HTMLElement>(`[name="${CSS.escape(first)}"]`)?.focus()
  }

  const start = (input: Json): void => {
    const result = policyOf(policyInForce)
    setPolicyErrors(result.kind === 'wrong' ? result.errors : new Map())
    if (result.kind === 'wrong') return focusOn(result.errors)
    const spec = { task: task.name, input, jobId: mintJobId(), ...result.policy }
    setStarting(true)
    setFailure(undefined)
    const started =
      spec.onDisconnect === 'continue' ? api.start(spec).then((job) => table.put([job])) : held.start(spec)
    started.then(
      // Whoever has gone elsewhere meanwhile is left there.
      () => (form.current === null ? undefined : location.assign(jobHash(spec.jobId))),
      (error: unknown) => {
        const message = messageOf(error)
        setStarting(false)
        setFailure(message)
        if (json === undefined && variant !== undefined) setErrors(refusedField(variant, message))
      },
    )
  }

  const onSubmit = (event: Event): void => {
    event.preventDefault()
    if (isStarting) return
    if (json !== undefined) {
      const input = parseJson(json)
      if (input === undefined) return setErrors(new Map([['json', 'must be JSON']]))
      setErrors(new Map())
      return start(input)
    }
    const result = variant === undefined ? undefined : inputOf(variant, typed)
    if (result === undefined) return undefined
    if (result.kind === 'ok') {
      setErrors(new Map())
      return start(result.input)
    }
    setErrors(result.errors)
    return focusOn(result.errors)
  }

  const toggleJson = (): void => {
    if (variant === undefined) return
    if (json === undefined) return setJson(JSON.stringify(inputSoFar(variant, typed), null, 2))
    const known = typedOf(variant, parseJson(json))
    if (known === undefined) return setErrors(new Map([['json', 'has what the form cannot show']]))
    setTyped(known)
    setErrors(new Map())
    setJson(undefined)
  }

  return (
    <form
      ref={form}
      class="panel task-form"
      noValidate
      onSubmit={onSubmit}
      onKeyDown={(event) => {
        if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.current?.requestSubmit()
      }}
    >
      <div class="panel-head">
        <h2>Input</h2>
        {variants.length > 0 && (
          <button type="button" class="button quiet small" aria-pressed={json !== undefined} onClick={toggleJson}>
            As JSON
          </button>
        )}
      </div>
      {json === undefined && variants.length > 1 && (
        <fieldset class="segments">
          <legend class="visually-hidden">Form of the input</legend>
          {variants.map(({ name }, index) => (
            <label key={name}>
              <input type="radio" name="variant" checked={index === at} onChange={() => setAt(index)} />
              <span>{lineText(name)}</span>
            </label>
          ))}
        </fieldset>
      )}
      {json === undefined ? (
        <Fields
          key={at}
          fields={variant?.fields ?? []}
          typed={typed}
          errors={errors}
          onTyped={(name, text) => setTyped((known) => new Map(known).set(name, text))}
        />
      ) : (
        <JsonInput text={json} error={errors.get('json')} onText={setJson} />
      )}
      <PolicyFields policy={policyInForce} errors={policyErrors} isFull={isFull} onPolicy={setPolicy} />
      {failure !== undefined && (
        <p class="notice bad" role="alert">
          {failure}
        </p>
      )}
      <div class="form-end">
        <button type="submit" class="button primary" disabled={isStarting}>
          {isStarting ? 'Starting…' : 'Start'}
        </button>
        <span class="muted keys">
          <kbd>Ctrl</kbd> <kbd>Enter</kbd>
        </span>
      </div>
    </form>
  )
}

interface FieldsProps {
  readonly fields: readonly Field[]
  readonly typed: Typed
  readonly errors: ReadonlyMap<string, string>
  readonly onTyped: (name: string, text: string) => void
}

/** What is needed first; what may be left out is out of the way where there is much of it. */
function Fields({ fields, typed, errors, onTyped }: FieldsProps): JSX.Element {
  const optional = fields.filter(({ isRequired }) => !isRequired)
  const isFolded = optional.length > 1 && optional.length < fields.length
  const shown = isFolded ? fields.filter(({ isRequired }) => isRequired) : fields
  const inputOf = (field: Field): JSX.Element => (
    <FieldInput
      key={field.name}
      field={field}
      text={typed.get(field.name) ?? field.initial}
      error={errors.get(field.name)}
      onText={(text) => onTyped(field.name, text)}
    />
  )
  return (
    <>
      {shown.map(inputOf)}
      {isFolded && (
        <details class="optional" open={optional.some(({ name }) => errors.has(name))}>
          <summary>Optional: {optional.map(({ name }) => lineText(name)).join(', ')}</summary>
          {optional.map(inputOf)}
        </details>
      )}
    </>
  )
}

function JsonInput({
  text,
  error,
  onText,
}: {
  readonly text: string
  readonly error: string | undefined
  readonly onText: (text: string) => void
}): JSX.Element {
  return (
    <div class={`field ${error === undefined ? '' : 'field-wrong'}`}>
      <label for="field-json">Input as JSON</label>
      <textarea
        id="field-json"
        name="json"
        class="mono"
        rows={8}
        spellcheck={false}
        aria-invalid={error !== undefined}
        {...(error === undefined ? {} : { 'aria-describedby': 'field-json-error' })}
        value={text}
        onInput={({ currentTarget }) => onText(currentTarget.value)}
      />
      {error !== undefined && (
        <p class="error" id="field-json-error">
          The input {error}
        </p>
      )}
    </div>
  )
}

const CLOSING = [
  { value: 'cancel', name: 'Cancel it' },
  { value: 'stop', name: 'Stop it' },
  { value: 'continue', name: 'Let it run' },
] as const

interface PolicyFieldsProps {
  readonly policy: PolicyTyped
  readonly errors: ReadonlyMap<PolicyField, string>
  /** This tab holds as many jobs as it may. */
  readonly isFull: boolean
  readonly onPolicy: (policy: PolicyTyped) => void
}

function PolicyFields({ policy, errors, isFull, onPolicy }: PolicyFieldsProps): JSX.Element {
  const isHeld = policy.onDisconnect !== 'continue'
  return (
    <div class="policy">
      <fieldset class="segments">
        <legend>When this tab is closed</legend>
        {CLOSING.map(({ value, name }) => (
          <label key={value}>
            <input
              type="radio"
              name="onDisconnect"
              value={value}
              checked={policy.onDisconnect === value}
              disabled={isFull && value !== 'continue'}
              onChange={() => onPolicy({ ...policy, onDisconnect: value })}
            />
            <span>{name}</span>
          </label>
        ))}
      </fieldset>
      {isFull && (
        <p class="hint">
          {MAX_HELD} jobs are held already, and a browser has six connections to a server for all its tabs: let one of
          them run on first.
        </p>
      )}
      <div class="field-row">
        {isHeld && (
          <SecondsField
            name="graceSeconds"
            error={errors.get('graceSeconds')}
            label="After, seconds"
            hint="So that loading the page anew does not count."
            text={policy.graceSeconds}
            onText={(graceSeconds) => onPolicy({ ...policy, graceSeconds })}
          />
        )}
        <SecondsField
          name="timeoutSeconds"
          error={errors.get('timeoutSeconds')}
          label="Time limit, seconds"
          hint="Empty: the most that the server allows."
          text={policy.timeoutSeconds}
          onText={(timeoutSeconds) => onPolicy({ ...policy, timeoutSeconds })}
        />
      </div>
    </div>
  )
}

interface SecondsFieldProps {
  readonly name: PolicyField
  readonly error: string | undefined
  readonly label: string
  readonly hint: string
  readonly text: string
  readonly onText: (text: string) => void
}

function SecondsField({ name, error, label, hint, text, onText }: SecondsFieldProps): JSX.Element {
  const id = `policy-${name}`
  return (
    <div class={`field ${error === undefined ? '' : 'field-wrong'}`}>
      <label for={id}>{label}</label>
      <input
        id={id}
        name={name}
        inputMode="decimal"
        autocomplete="off"
        value={text}
        aria-invalid={error !== undefined}
        aria-describedby={error === undefined ? `${id}-hint` : `${id}-error ${id}-hint`}
        onInput={({ currentTarget }) => onText(currentTarget.value)}
      />
      {error !== undefined && (
        <p class="error" id={`${id}-error`}>
          {label} {error}
        </p>
      )}
      <p class="hint" id={`${id}-hint`}>
        {hint}
      </p>
    </div>
  )
}
