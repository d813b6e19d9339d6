const MAX_NOTES = 12
const MAX_NOTE_UNITS = 400

/** What happened beside what was asked for, until the model is told of it with the next answer. */
export class Notes {
  #notes: string[] = []
  #dropped = 0

  /** The first ones are kept: a page can make something happen without end. */
  add(note: string): void {
    if (this.#notes.length >= MAX_NOTES) this.#dropped += 1
    else this.#notes.push(note.length > MAX_NOTE_UNITS ? `${note.slice(0, MAX_NOTE_UNITS)}…` : note)
  }

  /** All since the last call, a line each. */
  take(): readonly string[] {
    const notes = this.#dropped === 0 ? this.#notes : [...this.#notes, `(${this.#dropped} more like these)`]
    this.#notes = []
    this.#dropped = 0
    return notes
  }
}
