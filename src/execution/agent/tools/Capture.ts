/** The beginning and the end of a text that may be endless, of about `maxUnits` together (UTF-16 units). */
export class Capture {
  readonly #half: number
  #head = ''
  #tail = ''
  #units = 0

  constructor(maxUnits: number) {
    this.#half = Math.floor(maxUnits / 2)
  }

  /** How much came in all. */
  get units(): number {
    return this.#units
  }

  push(text: string): void {
    this.#units += text.length
    const room = this.#half - this.#head.length
    this.#head += text.slice(0, room)
    const rest = text.slice(Math.max(0, room))
    if (rest === '') return
    this.#tail += rest
    // Cut now and then, and not with every piece.
    if (this.#tail.length > 2 * this.#half) this.#tail = this.#tail.slice(-this.#half)
  }

  toString(): string {
    const tail = this.#tail.slice(-this.#half)
    const left = this.#units - this.#head.length - tail.length
    const middle = left > 0 ? `\n… ${left} characters left out …\n` : ''
    return `${this.#head}${middle}${tail}`.toWellFormed()
  }
}
