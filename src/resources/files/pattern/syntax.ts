import { ToolError } from '../ToolError.ts'

/** What a pattern is made of. A `set` is an index into the sets of characters of its pattern. */
export type Node =
  | { readonly kind: 'set'; readonly set: number }
  | { readonly kind: 'sequence'; readonly parts: readonly Node[] }
  | { readonly kind: 'choice'; readonly options: readonly Node[] }
  | { readonly kind: 'repeat'; readonly part: Node; readonly min: number; readonly max: number }
  | { readonly kind: 'assertion'; readonly at: Assertion }

export type Assertion = 'start' | 'end' | 'word' | 'notWord'

/** A pattern as it was read. Each of `sets` is a regular expression for one character. */
export interface Syntax {
  readonly root: Node
  readonly sets: readonly string[]
}

/** So that neither what reads a pattern nor what it is made into grows large (UTF-16 units). */
const MAX_PATTERN_LENGTH = 1000

/** As in RE2. */
const MAX_REPEAT = 1000

const QUANTIFIER = /(?:[*+?]|\{(?<min>\d+)(?:(?<comma>,)(?<max>\d*))?\})\??/y
const GROUP_START = /\((?:\?:|\?<[\p{L}_$][\p{L}\p{N}_$]*>|(?!\?))/uy
/** Escapes for one character that mean the same in JavaScript. A surrogate pair is one character. */
const SET_ESCAPE =
  /\\(?:[dDwWsStrfv]|0(?!\d)|x[\dA-Fa-f]{2}|u[dD][89abAB][\dA-Fa-f]{2}\\u[dD][c-fC-F][\dA-Fa-f]{2}|u[\dA-Fa-f]{4}|u\{[\dA-Fa-f]{1,6}\}|[pP]\{[\w=]+\})/y
/** From the bracket to the first that is not escaped. */
const CLASS = /\[(?:[^\]\\]|\\[^])*\]/uy
const LITERAL_ESCAPE = /\\(?<literal>[^\p{L}\p{N}])/uy

/**
 * Reads a regular expression as JavaScript writes it, with code points for characters, in which braces and brackets that close
 * nothing, and escapes that are not needed, stand for themselves.
 * @throws {ToolError} where it is malformed, or has what cannot be matched in linear time: references and looking around
 */
export function readPattern(source: string): Syntax {
  assertIsPattern(source)
  return readExpression(source)
}

/** As `readPattern`, of any length. */
export function readExpression(source: string): Syntax {
  return new PatternReader(source).read()
}

/** Takes every character of `text` for itself. @throws {ToolError} */
export function readLiteral(text: string): Syntax {
  assertIsPattern(text)
  const sets = new Sets()
  const parts = Array.from(text, (character) => sets.node(RegExp.escape(character)))
  return { root: { kind: 'sequence', parts }, sets: sets.sources }
}

function assertIsPattern(source: string): void {
  const refuse = (why: string): never => {
    throw new ToolError(`${why}: expected is what a part of one line looks like`)
  }
  if (source === '') refuse('the pattern is empty')
  if (source.length > MAX_PATTERN_LENGTH) refuse(`the pattern is longer than ${MAX_PATTERN_LENGTH} characters`)
  if (!source.isWellFormed()) refuse('the pattern has half of a surrogate pair in it')
  if (source.includes('\n')) refuse('the pattern has a line break in it, and lines are searched one by one')
}

class Sets {
  readonly #indexes = new Map<string, number>()

  node(source: string): Node {
    const set = this.#indexes.get(source) ?? this.#indexes.size
    this.#indexes.set(source, set)
    return { kind: 'set', set }
  }

  get sources(): string[] {
    return [...this.#indexes.keys()]
  }
}

/** Reads one pattern from left to right. Its depth is bounded by the pattern's length. */
class PatternReader {
  readonly #source: string
  readonly #sets = new Sets()
  #at = 0

  constructor(source: string) {
    this.#source = source
  }

  read(): Syntax {
    const root = this.#choice()
    if (this.#at < this.#source.length) throw this.#malformed('a ) closes nothing')
    return { root, sets: this.#sets.sources }
  }

  #choice(): Node {
    const options = [this.#sequence()]
    while (this.#take('|')) options.push(this.#sequence())
    return options.length === 1 && options[0] !== undefined ? options[0] : { kind: 'choice', options }
  }

  #sequence(): Node {
    const parts: Node[] = []
    while (this.#at < this.#source.length && !')|'.includes(this.#source.charAt(this.#at))) {
      parts.push(this.#repeated(this.#atom()))
    }
    return { kind: 'sequence', parts }
  }

  #repeated(part: Node): Node {
    const quantifier = this.#match(QUANTIFIER)
    if (quantifier === undefined) return part
    if (part.kind === 'assertion') throw this.#malformed(`${quantifier[0]} repeats nothing`)
    const { min, max } = boundsOf(quantifier)
    if (min > max) throw this.#malformed(`${quantifier[0]} asks for more than it allows`)
    if (min > MAX_REPEAT || (max > MAX_REPEAT && max !== Infinity)) {
      throw this.#malformed(`${quantifier[0]} repeats more than ${MAX_REPEAT} times`)
    }
    return { kind: 'repeat', part, min, max }
  }

  #atom(): Node {
    const character = String.fromCodePoint(this.#source.codePointAt(this.#at) ?? 0)
    switch (character) {
      case '(':
        return this.#group()
      case '[':
        return this.#class()
      case '\\':
        return this.#escape()
      case '^':
        this.#at += 1
        return { kind: 'assertion', at: 'start' }
      case '$':
        this.#at += 1
        return { kind: 'assertion', at: 'end' }
      case '.':
        this.#at += 1
        return this.#sets.node('.')
      default: {
        const quantifier = this.#match(QUANTIFIER)
        if (quantifier !== undefined) throw this.#malformed(`${quantifier[0]} repeats nothing`)
        this.#at += character.length
        return this.#sets.node(RegExp.escape(character))
      }
    }
  }

  #group(): Node {
    if (this.#match(GROUP_START) === undefined) {
      const start = this.#source.slice(this.#at, this.#at + 4)
      throw this.#malformed(
        `a group that starts with ${start} is not supported: looking around takes more than linear time, and flags are options`,
      )
    }
    const inside = this.#choice()
    if (!this.#take(')')) throw this.#malformed('a ( is not closed')
    return inside
  }

  #class(): Node {
    const source = this.#match(CLASS)?.[0]
    if (source === undefined) throw this.#malformed('a [ is not closed')
    if (/\[:\w+:/.test(source))
      throw this.#malformed('classes such as [:space:] are not supported, \\s and the like are')
    // What JavaScript takes for itself without being asked, it does not take escaped.
    const strict = source.replaceAll(/\\([^\p{L}\p{N}^$\\.*+?()[\]{}|/-])/gu, '$1')
    if (!isExpression(strict)) throw this.#malformed(`${source} is no class of characters`)
    return this.#sets.node(strict)
  }

  #escape(): Node {
    const set = this.#match(SET_ESCAPE)?.[0]
    if (set !== undefined) {
      if (!isExpression(set)) throw this.#malformed(`${set} is no character`)
      return this.#sets.node(set)
    }
    const literal = this.#match(LITERAL_ESCAPE)?.groups?.['literal']
    if (literal !== undefined) return this.#sets.node(RegExp.escape(literal))
    const escape = this.#source.slice(this.#at, this.#at + 2)
    this.#at += 2
    switch (escape) {
      case '\\b':
        return { kind: 'assertion', at: 'word' }
      case '\\B':
        return { kind: 'assertion', at: 'notWord' }
      case '\\n':
        throw this.#malformed('lines are searched one by one, so none has a line break in it')
      default:
        throw this.#malformed(
          /\d|k/.test(escape) ? `references such as ${escape} take more than linear time` : `${escape} means nothing`,
        )
    }
  }

  #take(character: string): boolean {
    if (this.#source.charAt(this.#at) !== character) return false
    this.#at += 1
    return true
  }

  #match(expression: RegExp): RegExpExecArray | undefined {
    expression.lastIndex = this.#at
    const found = expression.exec(this.#source) ?? undefined
    if (found !== undefined) this.#at += found[0].length
    return found
  }

  #malformed(why: string): ToolError {
    const shown = JSON.stringify(
      this.#source.length > 200 ? `${this.#source.slice(0, 200).toWellFormed()}…` : this.#source,
    )
    return new ToolError(`the pattern ${shown} cannot be searched for: ${why}`)
  }
}

/** Of an expression for one character, which cannot be slow to make. */
export function isExpression(source: string): boolean {
  try {
    return new RegExp(source, 'u').unicode
  } catch (error) {
    if (error instanceof SyntaxError) return false
    throw error
  }
}

function boundsOf({ 0: text, groups }: RegExpExecArray): { min: number; max: number } {
  if (groups?.['min'] !== undefined) {
    const min = Number(groups['min'])
    if (groups['comma'] === undefined) return { min, max: min }
    return { min, max: groups['max'] === '' ? Infinity : Number(groups['max']) }
  }
  return { min: text.startsWith('+') ? 1 : 0, max: text.startsWith('?') ? 1 : Infinity }
}
