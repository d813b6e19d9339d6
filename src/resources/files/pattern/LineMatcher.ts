import { unreachable } from '../../../job/unreachable.ts'
import type { Program } from './program.ts'
import type { Assertion } from './syntax.ts'

/** What comes before the next character: a line's beginning, or a character that is one of a word or not. */
type Before = 'start' | 'word' | 'other'

/** What a pattern can have read so far: where in the program it can stand. A node of the graph that is drawn as text is read. */
interface State {
  readonly standsAt: readonly number[]
  readonly before: Before
  /** Where each kind of character leads, as far as it was worked out. */
  readonly next: (State | undefined)[]
}

/** Characters that are in the same sets are of one kind; so is, for itself, the end of a line. */
interface Kind {
  /** For each set of the program, whether they are in it. */
  readonly members: readonly boolean[]
  readonly after: 'word' | 'other' | 'end'
}

/** Kinds by their number; 0 is for characters that were not met yet, and for those that need a second look. */
const UNKNOWN = 0
const LINE_END = 1

/** Past it the graph is begun anew: some patterns have more states than any memory. */
const MAX_STATES = 500

/** One call works out about as much (steps of the program) before it gives the time back. */
const MAX_WORK = 20_000

const MATCHED: State = { standsAt: [], before: 'other', next: [] }

/**
 * Finds the lines of a text that a pattern matches, in time that is linear in the text's length whatever the pattern is: every
 * character is read once, by a table that is filled as it is needed, at a cost bounded by the program's length (RE2 and grep do
 * the same). JavaScript's own engine tries one way after the other, which `(a+)+$` makes an exponential number of.
 *
 * The text may come in pieces of any length. A character must not be parted between two, nor CR from its LF.
 */
export class LineMatcher {
  readonly #program: Program
  readonly #kinds: Kind[]
  readonly #kindOfUnit = new Uint16Array(0x10000)
  readonly #kindOfCodePoint = new Map<number, number>()
  readonly #kindByMembers = new Map<string, number>()
  readonly #looksAtWords: boolean
  readonly #states = new Map<string, State>()
  #start: State
  #state: State
  #work = 0

  constructor(program: Program) {
    this.#program = program
    const lineEnd: Kind = { members: program.sets.map(() => false), after: 'end' }
    this.#kinds = [lineEnd, lineEnd]
    this.#kindOfUnit[0x0a] = LINE_END
    this.#looksAtWords = program.instructions.some(
      (instruction) => instruction.op === 'assert' && (instruction.at === 'word' || instruction.at === 'notWord'),
    )
    this.#start = newState([], 'start')
    this.#state = this.#start
  }

  /** What comes next is the beginning of a line. */
  beginLine(): void {
    this.#state = this.#start
  }

  /** Whether the line that is being read matches. It stays so until `beginLine`. */
  get hasMatched(): boolean {
    return this.#state === MATCHED
  }

  /** Whether `line`, which has no line break, matches. */
  matches(line: string): boolean {
    this.beginLine()
    const text = `${line}\n`
    for (let at = 0; at < text.length && !this.hasMatched; ) at = this.advance(text, at)
    return this.hasMatched
  }

  /**
   * Reads `text` on from `from`, and returns how far it came: to the first match, which is then of the line there; to the end; or
   * less far, so that nobody waits for long.
   */
  advance(text: string, from: number, to = text.length): number {
    let state = this.#state
    let at = from
    this.#work = 0
    while (at < to && this.#work < MAX_WORK && state !== MATCHED) {
      const known = this.#kindOfUnit[text.charCodeAt(at)] ?? UNKNOWN
      if (known !== UNKNOWN) {
        state = state.next[known] ?? this.#workOut(state, known)
        if (state !== MATCHED) at += 1
        continue
      }
      const codePoint = text.codePointAt(at) ?? 0
      if (codePoint === 0x0d && text.charCodeAt(at + 1) === 0x0a) {
        at += 1
        continue
      }
      const kind = this.#kindOf(codePoint)
      state = state.next[kind] ?? this.#workOut(state, kind)
      if (state !== MATCHED) at += codePoint > 0xffff ? 2 : 1
    }
    this.#state = state
    return at
  }

  #kindOf(codePoint: number): number {
    const known = this.#kindOfCodePoint.get(codePoint)
    if (known !== undefined) return known
    const { sets, isWordCharacter } = this.#program
    this.#work += sets.length
    const members = sets.map((set) => set(codePoint))
    const after = isWordCharacter(codePoint) ? 'word' : 'other'
    const key = `${members.map(Number).join('')}${after}`
    const kind = this.#kindByMembers.get(key) ?? this.#kinds.push({ members, after }) - 1
    this.#kindByMembers.set(key, kind)
    if (isOneUnit(codePoint)) this.#kindOfUnit[codePoint] = kind
    else this.#kindOfCodePoint.set(codePoint, kind)
    return kind
  }

  /** Where `kind` leads from `state`; enters it there. */
  #workOut(state: State, kind: number): State {
    const next = this.#successor(state, this.#kinds[kind] ?? fail())
    state.next[kind] = next
    return next
  }

  #successor(state: State, kind: Kind): State {
    const { instructions } = this.#program
    this.#work += instructions.length
    const reached = new Uint8Array(instructions.length)
    // A match may begin at any character.
    const waiting = [0, ...state.standsAt]
    const standsAt: number[] = []
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
      if (reached[at] === 1) continue
      reached[at] = 1
      const instruction = instructions[at] ?? fail()
      switch (instruction.op) {
        case 'match':
          return MATCHED
        case 'set':
          if (kind.members[instruction.set] === true) standsAt.push(at + 1)
          break
        case 'assert':
          if (holds(instruction.at, state.before, kind.after)) waiting.push(at + 1)
          break
        case 'jump':
          waiting.push(instruction.to)
          break
        case 'fork':
          waiting.push(...instruction.to)
          break
        default:
          unreachable(instruction)
      }
    }
    if (kind.after === 'end') return this.#start
    return this.#stateOf(standsAt.sort(byNumber), this.#looksAtWords ? kind.after : 'other')
  }

  #stateOf(standsAt: readonly number[], before: Before): State {
    const key = `${before}${standsAt.join()}`
    const known = this.#states.get(key)
    if (known !== undefined) return known
    if (this.#states.size >= MAX_STATES) {
      this.#states.clear()
      // What was worked out hangs on it.
      this.#start = newState([], 'start')
    }
    const state = newState(standsAt, before)
    this.#states.set(key, state)
    return state
  }
}

function newState(standsAt: readonly number[], before: Before): State {
  return { standsAt, before, next: [] }
}

function holds(assertion: Assertion, before: Before, after: Kind['after']): boolean {
  switch (assertion) {
    case 'start':
      return before === 'start'
    case 'end':
      return after === 'end'
    case 'word':
      return (before === 'word') !== (after === 'word')
    case 'notWord':
      return (before === 'word') === (after === 'word')
    default:
      return unreachable(assertion)
  }
}

/** Whether the unit says it all. CR is looked at again each time, for the LF behind it, and a surrogate for its other half. */
function isOneUnit(codePoint: number): boolean {
  return codePoint !== 0x0d && codePoint <= 0xffff && (codePoint < 0xd800 || codePoint > 0xdfff)
}

function byNumber(a: number, b: number): number {
  return a - b
}

function fail(): never {
  throw new Error('a pattern leads out of its program')
}
