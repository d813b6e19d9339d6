/** Something that changes, and tells so at most once a frame, however often it does. */
export class Changes {
  readonly #listeners = new Set<() => void>()
  #version = 0
  #isDue = false

  /** Another number after each change. */
  get version(): number {
    return this.#version
  }

  /** Returns its undo. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  note(): void {
    this.#version += 1
    if (this.#isDue) return
    this.#isDue = true
    const tell = (): void => {
      this.#isDue = false
      for (const listener of this.#listeners) listener()
    }
    // A hidden page has no frames, and what is counted there shall be right all the same.
    if (document.hidden) setTimeout(tell, 250)
    else requestAnimationFrame(tell)
  }
}
