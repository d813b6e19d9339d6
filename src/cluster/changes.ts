import { groupKeyOf, keyOf } from '../job/key.ts'
import type { JobRecord } from '../job/record.ts'
import type { JobState } from '../job/state.ts'
import { isTerminal } from '../job/status.ts'
import { unreachable } from '../job/unreachable.ts'
import { type ChangeResult, type EventBatch, type RunLimit, type StoreChange, StoreError } from '../store/JobStore.ts'
import { splitBatch } from '../store/splitBatch.ts'
import { indexNames, limitName, placeName, refName, valuesName } from './names.ts'
import { fieldsOf, inputFieldsOf, stateFieldsOf } from './records.ts'

/** An entry of the log is what a reader gets at the least. */
const MAX_ENTRY_UNITS = 64 * 1024

const RESULTS: Readonly<Record<string, ChangeResult>> = {
  o: { ok: true },
  a: { ok: true, isAsked: true },
  e: { ok: false, why: 'exists' },
  p: { ok: false, why: 'spent' },
  m: { ok: false, why: 'missing' },
  s: { ok: false, why: 'status' },
  q: { ok: false, why: 'sequence' },
  k: { ok: false, why: 'key_taken' },
  f: { ok: false, why: 'fenced' },
  r: { ok: false, why: 'asked' },
  c: { ok: false, why: 'changed' },
}

/** What `commit.lua` answered: a letter for each change. */
export function resultsOf(answer: unknown): readonly ChangeResult[] {
  return Array.from(String(answer), (letter) => {
    const result = RESULTS[letter]
    if (result === undefined)
      throw new StoreError(`Redis must answer a commit with ${Object.keys(RESULTS).join(', ')}, got ${letter}`)
    return result
  })
}

/**
 * Whether a change ends something or gives memory back: such must get through where Redis is full, and so must what is one
 * transaction with them.
 */
export function isAlwaysTaken(change: StoreChange): boolean {
  switch (change.kind) {
    case 'move':
      return change.state.status !== 'queued' && change.state.status !== 'running'
    case 'delete':
    case 'settled':
      return true
    case 'requests':
      // Ends wait behind what was called before them, and of one job there are never many.
      return true
    case 'value':
      return change.json === undefined
    case 'tombstone':
      return change.tombstone === undefined
    case 'create':
    case 'append':
    case 'policy':
      return false
    default:
      return unreachable(change)
  }
}

/** The change as `commit.lua` takes it: its kind, then what the function of that name there takes, one behind the other. */
export function argumentsOf(change: StoreChange): readonly string[] {
  switch (change.kind) {
    case 'create': {
      const { record, events, owner, waitsUntil, isHeld, limits } = change
      const { tenant, group, parentId } = record
      return [
        change.kind,
        refName(record),
        record.state.status,
        placeName(record),
        indexNames(record).join('\n'),
        ...optional(endedAtOf(record.state)),
        ...optional(record.idempotencyKey),
        ...optional(owner),
        ...optional(waitsUntil === undefined ? undefined : String(waitsUntil)),
        isHeld === true ? '1' : '0',
        ...optional(parentId === undefined ? undefined : refName({ tenant, id: parentId })),
        keyOf(record),
        ...optional(group === undefined ? undefined : groupKeyOf(tenant, group)),
        ...list([...fieldsOf(record), ...limitFieldsOf(record, limits)]),
        ...eventArguments(events),
      ]
    }
    case 'move': {
      const { ref, from, state, input, events, owner } = change
      return [
        change.kind,
        refName(ref),
        from,
        state.status,
        ...optional(endedAtOf(state)),
        ...optional(owner),
        ...list([...stateFieldsOf(state), ...(input === undefined ? [] : inputFieldsOf(input))]),
        ...eventArguments(events),
      ]
    }
    case 'append':
      return [change.kind, refName(change.ref), ...eventArguments(change.events)]
    case 'policy':
      return [
        change.kind,
        refName(change.ref),
        JSON.stringify(change.policy),
        ...optional(change.before && JSON.stringify(change.before)),
      ]
    case 'settled':
      return [change.kind, refName(change.ref), String(change.settledAt)]
    case 'delete':
      return [change.kind, refName(change.ref), String(change.spentUntil)]
    case 'value':
      return [change.kind, valuesName(change.tenant, change.task), change.key, ...optional(change.json)]
    case 'tombstone': {
      const { name, tombstone } = change
      const request = tombstone && JSON.stringify(tombstone.request)
      return [change.kind, name, ...optional(request), String(tombstone?.expiresAt ?? 0)]
    }
    case 'requests': {
      const { requests } = change
      const each = requests.flatMap(({ ref, request }) => [refName(ref), JSON.stringify(request)])
      return [change.kind, String(requests.length), ...each]
    }
    default:
      return unreachable(change)
  }
}

/** Times in ms are less than this for some hundred years, and a priority counts more than any time. */
const MS_A_PRIORITY = 1e13

/** What `limits.lua` needs of a job: its limits, and where it stands among those that wait for the same. */
function limitFieldsOf({ policy, createdAt }: JobRecord, limits: readonly RunLimit[] = []): readonly string[] {
  if (limits.length === 0) return []
  const lines = limits.map(({ name, limit }) => `${limit} ${limitName(name)}`)
  return ['limits', lines.join('\n'), 'rank', String(createdAt - policy.priority * MS_A_PRIORITY)]
}

function eventArguments(events: EventBatch): readonly string[] {
  const parts = splitBatch(events, MAX_ENTRY_UNITS)
  return [
    String(events.firstSeq),
    String(events.lastSeq),
    String(parts.length),
    ...parts.flatMap(({ firstSeq, lastSeq, lines }) => [String(firstSeq), String(lastSeq), lines]),
  ]
}

function optional(text: string | undefined): readonly string[] {
  return text === undefined ? ['0'] : ['1', text]
}

function list(texts: readonly string[]): readonly string[] {
  return [String(texts.length), ...texts]
}

/** A job that is created ended, or moved to its end, has one. */
function endedAtOf(state: JobState): string | undefined {
  return isTerminal(state.status) && 'endedAt' in state ? String(state.endedAt) : undefined
}
