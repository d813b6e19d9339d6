interface Call<Item, Answer> {
  readonly item: Item
  readonly answered: PromiseWithResolvers<Answer>
}

/**
 * Calls that are made while one is under way wait for it, and then go together as one. So a call that comes alone goes at once,
 * and many cost few round trips. Every call rejects with what its round trip rejects with.
 */
export class Gathered<Item, Answer> {
  readonly #ask: (items: readonly Item[]) => Promise<readonly Answer[]>
  readonly #maxAtOnce: number
  #waiting: Call<Item, Answer>[] = []
  #isUnderWay = false

  /** `ask` settles with an answer for each item, in their order. */
  constructor(ask: (items: readonly Item[]) => Promise<readonly Answer[]>, maxAtOnce: number) {
    this.#maxAtOnce = maxAtOnce
    this.#ask = ask
  }

  call(item: Item): Promise<Answer> {
    const answered = Promise.withResolvers<Answer>()
    this.#waiting.push({ item, answered })
    if (!this.#isUnderWay) void this.#askAll()
    return answered.promise
  }

  async #askAll(): Promise<void> {
    this.#isUnderWay = true
    while (this.#waiting.length > 0) {
      const calls = this.#waiting.splice(0, this.#maxAtOnce)
      try {
        const answers = await this.#ask(calls.map(({ item }) => item))
        if (answers.length !== calls.length) throw new Error(`${calls.length} answers must come, got ${answers.length}`)
        for (const [index, { answered }] of calls.entries()) answered.resolve(answers[index] as Answer)
      } catch (error) {
        for (const { answered } of calls) answered.reject(error)
      }
    }
    this.#isUnderWay = false
  }
}
