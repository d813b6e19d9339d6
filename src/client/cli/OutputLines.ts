import { plainText } from '../plainText.ts'
import { TerminalFilter } from '../TerminalFilter.ts'
import { LineBuffer } from './LineBuffer.ts'

const TAB = '    '

/** The plain lines of several channels. Of what a terminal acts on nothing is left, colours included. */
export class OutputLines {
  readonly #channels = new Map<string, { readonly filter: TerminalFilter; readonly buffer: LineBuffer }>()

  /** The lines that this text completes. */
  push(channel: string, text: string): string[] {
    const { filter, buffer } = this.#channelOf(channel)
    return buffer.push(filter.filter(text)).map(plainOf)
  }

  /** Lines whose ends have not come, as far as they have. They are over. */
  rest(): string[] {
    return nonEmpty([...this.#channels.values()].map(({ buffer }) => buffer.takePartial()))
  }

  /** The same, and they go on. */
  get partial(): string[] {
    return nonEmpty([...this.#channels.values()].map(({ buffer }) => buffer.partial))
  }

  #channelOf(channel: string) {
    const known = this.#channels.get(channel)
    if (known !== undefined) return known
    const made = { filter: new TerminalFilter({ keepsColours: false }), buffer: new LineBuffer() }
    this.#channels.set(channel, made)
    return made
  }
}

function plainOf(line: string): string {
  return plainText(line.replaceAll('\t', TAB)).trimEnd()
}

function nonEmpty(lines: readonly string[]): string[] {
  return lines.filter((line) => line !== '').map(plainOf)
}
