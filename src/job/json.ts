/** What `JSON.parse` can give. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

/** Values that come from outside are nested no deeper: what walks one by recursion (also `JSON.stringify`) would run out of stack. */
export const MAX_JSON_DEPTH = 100

/** The objects and arrays that `value` is and holds, one depth after the other. Not recursive. */
export function* depthsOf(value: unknown): Generator<readonly object[]> {
  let level = containersIn([value])
  while (level.length > 0) {
    yield level
    level = level.flatMap((container) => containersIn(Object.values(container)))
  }
}

/** Whether something stands more than `MAX_JSON_DEPTH` below `value`. */
export function isTooDeep(value: unknown): boolean {
  return depthsOf(value)
    .drop(MAX_JSON_DEPTH + 1)
    .some(() => true)
}

function containersIn(values: readonly unknown[]): readonly object[] {
  return values.filter((value) => typeof value === 'object' && value !== null)
}

/**
 * One text for equal values: keys sorted at every level, no white space. Two bodies are the same where these texts are.
 * `JSON.stringify` cannot serve: it keeps the order in which the keys were written. Not recursive: a body of 16 KiB can be
 * nested more deeply than the call stack goes.
 */
export function canonicalJson(value: Json): string {
  let text = ''
  const rest: Piece[] = [{ before: '', value }]
  for (let piece = rest.pop(); piece !== undefined; piece = rest.pop()) {
    text += piece.before
    if (piece.value === undefined) continue
    if (piece.value === null || typeof piece.value !== 'object') {
      text += JSON.stringify(piece.value)
      continue
    }
    const [open, members, close] = partsOf(piece.value)
    text += open
    rest.push({ before: close })
    for (const member of members.toReversed()) rest.push(member)
  }
  return text
}

/** Something still to be written, the next one last: some text, then a value where there is one. */
interface Piece {
  readonly before: string
  readonly value?: Json
}

function partsOf(value: readonly Json[] | { readonly [key: string]: Json }): [string, Piece[], string] {
  if (Array.isArray(value)) {
    return ['[', value.map((member: Json, index) => ({ before: comma(index), value: member })), ']']
  }
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1))
  const members = entries.map(([key, member], index) => ({
    before: `${comma(index)}${JSON.stringify(key)}:`,
    value: member,
  }))
  return ['{', members, '}']
}

function comma(index: number): string {
  return index === 0 ? '' : ','
}
