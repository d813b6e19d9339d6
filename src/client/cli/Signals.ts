/** The signals that ask the client to end: a key press (Ctrl+C) or a supervisor. */
const ENDING = ['SIGINT', 'SIGTERM'] as const
export type EndingSignal = (typeof ENDING)[number]
export type SignalHandler = (signal: EndingSignal) => void

/**
 * Who hears of a signal: the one that asked last. Every signal counts, however close to another: they are key presses,
 * and somebody who presses twice wants to be gone.
 */
export class Signals {
  readonly #process: NodeJS.EventEmitter
  readonly #handlers: SignalHandler[]

  constructor(process: NodeJS.EventEmitter, fallback: SignalHandler) {
    this.#process = process
    this.#handlers = [fallback]
  }

  /** Returns its undo. */
  listen(): () => void {
    for (const signal of ENDING) this.#process.on(signal, this.#pass)
    return () => {
      for (const signal of ENDING) this.#process.off(signal, this.#pass)
    }
  }

  /** From now on `handler` hears of signals. Returns its undo. */
  subscribe(handler: SignalHandler): () => void {
    this.#handlers.push(handler)
    return () => {
      const index = this.#handlers.lastIndexOf(handler)
      if (index > 0) this.#handlers.splice(index, 1)
    }
  }

  readonly #pass = (signal: EndingSignal): void => {
    this.#handlers.at(-1)?.(signal)
  }
}
