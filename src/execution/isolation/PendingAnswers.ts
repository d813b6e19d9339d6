/** Answers that a process at the other end of a channel owes, each by the id of its call. */
export class PendingAnswers<A> {
  readonly #waiting = new Map<number, PromiseWithResolvers<A>>()
  #lastId = 0

  newId(): number {
    this.#lastId += 1
    return this.#lastId
  }

  /** Settles with what comes for that id. */
  to(id: number): Promise<A> {
    const answer = Promise.withResolvers<A>()
    this.#waiting.set(id, answer)
    return answer.promise
  }

  settle(id: number, answer: A): void {
    this.#waiting.get(id)?.resolve(answer)
    this.#waiting.delete(id)
  }

  /** None of them will come. */
  rejectAll(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}
