import { TetherError } from '../job/error.ts'

/** How many streams each client has open. A client is the authenticated subject, else the address. */
export class StreamQuota {
  readonly #maxPerClient: number
  readonly #open = new Map<string, number>()

  constructor(maxPerClient: number) {
    this.#maxPerClient = maxPerClient
  }

  /** @throws {TetherError} `TETHER_QUOTA` where the client has as many as it may. */
  take(subject: string): void {
    const open = this.#open.get(subject) ?? 0
    if (open >= this.#maxPerClient) {
      throw new TetherError(
        'TETHER_QUOTA',
        `a client may have ${this.#maxPerClient} streams open, and this one has ${open}: close one first`,
      )
    }
    this.#open.set(subject, open + 1)
  }

  giveBack(subject: string): void {
    const open = this.#open.get(subject) ?? 0
    // A client without streams is forgotten, so the map is no longer than the clients that are there.
    if (open <= 1) this.#open.delete(subject)
    else this.#open.set(subject, open - 1)
  }

  countOf(subject: string): number {
    return this.#open.get(subject) ?? 0
  }
}
