/** A wait that ends when its time is over or when somebody rings, whichever is first; it leaves no timer behind. */
export class Alarm {
  #wake: (() => void) | undefined

  /** One waits at a time. */
  wait(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.ring(), delayMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  ring(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }
}
