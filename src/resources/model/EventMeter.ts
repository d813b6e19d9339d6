/** A provider keeps an event until its blank line is there, and then works on all of it in one go. */
const MAX_EVENT_BYTES = 1024 * 1024

const LF = 10
const CR = 13

/** Measures the events of a stream (WHATWG HTML section 9.2) by its bytes, which may be cut anywhere. */
export class EventMeter {
  #eventBytes = 0
  #lineBytes = 0
  #isAfterCr = false

  /** @throws {Error} where an event has more than 1 MiB */
  take(bytes: Uint8Array): void {
    for (const byte of bytes) {
      const endsSameLine = byte === LF && this.#isAfterCr
      this.#isAfterCr = byte === CR
      if (endsSameLine) continue
      this.#eventBytes += 1
      if (byte !== LF && byte !== CR) this.#lineBytes += 1
      else if (this.#lineBytes === 0) this.#eventBytes = 0
      else this.#lineBytes = 0
      if (this.#eventBytes > MAX_EVENT_BYTES) {
        throw new Error(`an event of its answer has more than ${MAX_EVENT_BYTES} bytes`)
      }
    }
  }
}
