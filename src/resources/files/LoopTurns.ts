import { setImmediate as nextTurn } from 'node:timers/promises'

/** How long one holds the event loop. */
const TURN_MS = 4

/** The turn that was given away last. Of the process, since all calls share its event loop. */
let lastTurn: Promise<unknown> = Promise.resolve()

/**
 * Work that is done on the event loop's time in short pieces. In one turn of the loop only one of all that have work goes on: a
 * hundred of them hold up the loop no longer than one, and each of them takes longer instead.
 */
export class LoopTurns {
  #startedMs = 0

  /** Settles when it is our turn. Never rejects. */
  async take(): Promise<void> {
    const turn = lastTurn.then(() => nextTurn())
    lastTurn = turn
    await turn
    this.#startedMs = performance.now()
  }

  /** Whether the turn is used up: then the next is to be taken before anything else is done. */
  get isOver(): boolean {
    return performance.now() - this.#startedMs >= TURN_MS
  }
}
