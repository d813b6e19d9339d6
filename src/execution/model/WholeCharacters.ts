/** Characters of which a stream of texts may bring the two halves in two pieces, as UTF-16 has them. */
export class WholeCharacters {
  #half = ''

  /** What is whole of what has come; a half at its end comes with the next piece. */
  push(text: string): string {
    const all = this.#half + text
    const isParted = /[\ud800-\udbff]$/.test(all)
    this.#half = isParted ? all.slice(-1) : ''
    return isParted ? all.slice(0, -1) : all
  }

  /** The half that has stayed one; empty where there is none. */
  end(): string {
    return this.#half
  }
}
