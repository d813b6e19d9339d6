import { createHash, timingSafeEqual } from 'node:crypto'

/** Compares guesses with the API token in a time that tells nothing of how much of one is right. */
export class TokenCheck {
  readonly #digest: Buffer

  constructor(apiToken: string) {
    this.#digest = digestOf(apiToken)
  }

  isToken(guess: string): boolean {
    // Digests have one length, which timingSafeEqual asks for; comparing them tells nothing of how much of a guess is right.
    return timingSafeEqual(digestOf(guess), this.#digest)
  }

  /** Whether an `authorization` header bears it. */
  isBorneBy(authorization: string | undefined): boolean {
    const guess = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    return guess !== undefined && this.isToken(guess)
  }
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
