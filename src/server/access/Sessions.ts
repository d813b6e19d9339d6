import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Clock } from '../../clock.ts'

/** How long a login lasts. */
export const SESSION_MS = 12 * 60 * 60 * 1000

const EXPIRY_BYTES = 8
const NONCE_BYTES = 16
const MAC_BYTES = 32

/** Logins that were ended before their time; past it the oldest of them is forgotten, as if it had not been ended. */
const MAX_ENDED = 10_000

/**
 * What the cookie of a login holds: until when it lasts, a number of its own, and a signature whose key comes from the API token.
 * So it holds over a restart and at every replica with the same token, nothing of it is stored, and a new token ends all logins. It
 * says nothing of the token. A login that is ended is refused by this process; where its cookie was copied, other replicas take it until
 * its time is over.
 */
export class Sessions {
  readonly #key: Buffer
  readonly #clock: Clock
  /** Ended ones, each with the wall time (ms) when it would have ended by itself. */
  readonly #ended = new Map<string, number>()

  constructor(apiToken: string, clock: Clock) {
    this.#key = createHmac('sha256', apiToken).update('the sessions of logins').digest()
    this.#clock = clock
  }

  open(): string {
    const body = Buffer.alloc(EXPIRY_BYTES)
    body.writeBigUInt64BE(BigInt(this.#clock.now() + SESSION_MS))
    const signed = Buffer.concat([body, randomBytes(NONCE_BYTES)])
    return Buffer.concat([signed, this.#macOf(signed)]).toString('base64url')
  }

  isOpen(session: string): boolean {
    const expiresAt = this.#expiryOf(session)
    return expiresAt !== undefined && expiresAt > this.#clock.now() && !this.#ended.has(session)
  }

  /** It is refused from here on. */
  end(session: string): void {
    const expiresAt = this.#expiryOf(session)
    if (expiresAt === undefined) return
    const now = this.#clock.now()
    for (const [old, oldExpiresAt] of this.#ended) {
      if (oldExpiresAt > now && this.#ended.size < MAX_ENDED) break
      this.#ended.delete(old)
    }
    this.#ended.set(session, expiresAt)
  }

  /** Undefined where this is none that we signed. */
  #expiryOf(session: string): number | undefined {
    const bytes = Buffer.from(session, 'base64url')
    // Other texts that decode to the same bytes are not the session that was ended.
    if (bytes.length !== EXPIRY_BYTES + NONCE_BYTES + MAC_BYTES || bytes.toString('base64url') !== session)
      return undefined
    const signed = bytes.subarray(0, EXPIRY_BYTES + NONCE_BYTES)
    if (!timingSafeEqual(this.#macOf(signed), bytes.subarray(signed.length))) return undefined
    return Number(signed.readBigUInt64BE())
  }

  #macOf(signed: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(signed).digest()
  }
}
