import { unreachable } from '../../../job/unreachable.ts'
import { ToolError } from '../ToolError.ts'
import type { Assertion, Node, Syntax } from './syntax.ts'

/** A step of a program; the next is the one behind it, where it does not say so. */
export type Instruction =
  | { readonly op: 'set'; readonly set: number }
  | { readonly op: 'assert'; readonly at: Assertion }
  | { readonly op: 'fork'; readonly to: readonly [number, number] }
  | { readonly op: 'jump'; readonly to: number }
  | { readonly op: 'match' }

/** A pattern in the form of Thompson's machine: https://swtch.com/~rsc/regexp/regexp2.html */
export interface Program {
  readonly instructions: readonly Instruction[]
  readonly sets: readonly CharacterSet[]
  readonly isWordCharacter: CharacterSet
}

export type CharacterSet = (codePoint: number) => boolean

/** Each has a few instructions. The time for one character is bounded by this, and so is what `((a{99}){99}){99}` grows to. */
const MAX_PARTS = 2000

/** @throws {ToolError} where repetitions make it too large */
export function programOf({ root, sets }: Syntax, { ignoreCase }: { readonly ignoreCase: boolean }): Program {
  const writer = new ProgramWriter()
  writer.write(root)
  writer.add({ op: 'match' })
  return {
    instructions: writer.instructions,
    sets: sets.map((source) => characterSet(source, ignoreCase)),
    isWordCharacter: characterSet('\\w', ignoreCase),
  }
}

/** JavaScript's own engine says which characters are in a set: of one character at a time, it takes no time to speak of. */
function characterSet(source: string, ignoreCase: boolean): CharacterSet {
  const expression = new RegExp(`^${source}`, ignoreCase ? 'isu' : 'su')
  return (codePoint) => expression.test(String.fromCodePoint(codePoint))
}

class ProgramWriter {
  readonly instructions: Instruction[] = []
  #nodes = 0

  write(node: Node): void {
    // Not the instructions: an empty group that is repeated has none.
    this.#nodes += 1
    if (this.#nodes > MAX_PARTS) throw tooLarge()
    switch (node.kind) {
      case 'set':
        this.add({ op: 'set', set: node.set })
        break
      case 'assertion':
        this.add({ op: 'assert', at: node.at })
        break
      case 'sequence':
        for (const part of node.parts) this.write(part)
        break
      case 'choice':
        this.#writeChoice(node.options)
        break
      case 'repeat':
        this.#writeRepeat(node)
        break
      default:
        unreachable(node)
    }
  }

  add(instruction: Instruction): void {
    this.instructions.push(instruction)
  }

  #writeChoice(options: readonly Node[]): void {
    const ends: number[] = []
    options.forEach((option, index) => {
      const isLast = index === options.length - 1
      const fork = this.instructions.length
      if (!isLast) this.add(PLACEHOLDER)
      this.write(option)
      if (isLast) return
      ends.push(this.instructions.length)
      this.add(PLACEHOLDER)
      this.instructions[fork] = { op: 'fork', to: [fork + 1, this.instructions.length] }
    })
    for (const end of ends) this.instructions[end] = { op: 'jump', to: this.instructions.length }
  }

  #writeRepeat({ part, min, max }: Extract<Node, { kind: 'repeat' }>): void {
    for (let count = 0; count < min; count += 1) this.write(part)
    if (max === Infinity) {
      const fork = this.instructions.length
      this.add(PLACEHOLDER)
      this.write(part)
      this.add({ op: 'jump', to: fork })
      this.#patch([fork])
      return
    }
    const forks: number[] = []
    for (let count = min; count < max; count += 1) {
      forks.push(this.instructions.length)
      this.add(PLACEHOLDER)
      this.write(part)
    }
    this.#patch(forks)
  }

  /** Each of `forks` goes on behind itself, or here. */
  #patch(forks: readonly number[]): void {
    for (const fork of forks) this.instructions[fork] = { op: 'fork', to: [fork + 1, this.instructions.length] }
  }
}

/** Until it is known where to. */
const PLACEHOLDER: Instruction = { op: 'jump', to: 0 }

function tooLarge(): ToolError {
  return new ToolError(`the pattern is too large: with repetitions written out, it may have ${MAX_PARTS} parts`)
}
