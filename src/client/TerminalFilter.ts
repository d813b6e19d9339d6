import { hasControl, isControl } from './plainText.ts'

type State = 'text' | 'escape' | 'csi' | 'string'

const BEL = '\x07'
const CAN = '\x18'
const SUB = '\x1a'
const ESC = '\x1b'
/** The one-character forms (C1) of ESC [, of ESC P X ] ^ _, and of ESC \, which ends the latter. */
const CSI = '\x9b'
const STRING_STARTS = '\x90\x98\x9d\x9e\x9f'
const STRING_TERMINATOR = '\x9c'
const STRING_INTRODUCERS = 'PX]^_'

/** No colour needs more (ECMA-48 section 8.3.117 with the RGB forms of ISO 8613-6). */
const MAX_PARAMETER_CHARS = 64

/**
 * A job's output as a terminal may have it: text, tabs, line ends and colours (ESC [ digits ; : m). Everything else that a
 * terminal would act on is taken out, so that output cannot retitle it, move over what stands there, turn its direction, or make
 * it send input.
 * Sequences may be cut anywhere between two calls.
 */
export class TerminalFilter {
  readonly #keepsColours: boolean
  #state: State = 'text'
  #parameters = ''
  #isStyled = false

  /** Default: colours are kept. */
  constructor(options: { readonly keepsColours?: boolean } = {}) {
    this.#keepsColours = options.keepsColours ?? true
  }

  /** Whether the colours are other than the terminal's own after what was let through. */
  get isStyled(): boolean {
    return this.#isStyled
  }

  filter(text: string): string {
    if (this.#state === 'text' && !hasControl(text)) return text
    let kept = ''
    for (const character of text) kept += this.#take(character)
    return kept
  }

  #take(character: string): string {
    if (this.#state === 'text') return this.#takeText(character)
    if (this.#state === 'escape') return this.#takeEscape(character)
    return this.#state === 'csi' ? this.#takeCsi(character) : this.#takeString(character)
  }

  #takeText(character: string): string {
    if (character === ESC) this.#state = 'escape'
    else if (character === CSI) this.#startCsi()
    else if (STRING_STARTS.includes(character)) this.#state = 'string'
    else if (!isControl(character)) return character
    return ''
  }

  #takeEscape(character: string): string {
    if (character === '[') this.#startCsi()
    else if (STRING_INTRODUCERS.includes(character)) this.#state = 'string'
    else if (character === ESC) this.#state = 'escape'
    else if (character >= ' ' && character <= '/') this.#state = 'escape'
    else if (character >= '0' && character <= '~') this.#state = 'text'
    else return this.#backToText(character)
    return ''
  }

  #takeCsi(character: string): string {
    if (character >= '@' && character <= '~') {
      this.#state = 'text'
      return character === 'm' ? this.#colour() : ''
    }
    if (character < ' ' || character > '~') return this.#backToText(character)
    // One more than allowed is kept, as the mark that the sequence is too long.
    if (this.#parameters.length <= MAX_PARAMETER_CHARS) this.#parameters += character
    return ''
  }

  /** A line end closes it as well: a string that nobody ever closes must not swallow the rest of the output. */
  #takeString(character: string): string {
    if (character === ESC) this.#state = 'escape'
    else if (character === BEL || character === STRING_TERMINATOR) this.#state = 'text'
    else if (character === CAN || character === SUB) this.#state = 'text'
    else if (character === '\n') return this.#backToText(character)
    return ''
  }

  #backToText(character: string): string {
    this.#state = 'text'
    return this.#takeText(character)
  }

  #startCsi(): void {
    this.#state = 'csi'
    this.#parameters = ''
  }

  /** Parameters with other characters are private: ESC [ > 4 m sets what keys send. */
  #colour(): string {
    if (!this.#keepsColours) return ''
    if (this.#parameters.length > MAX_PARAMETER_CHARS || !/^[0-9;:]*$/.test(this.#parameters)) return ''
    this.#isStyled = !/(?:^|;)0*$/.test(this.#parameters)
    return `${ESC}[${this.#parameters}m`
  }
}
