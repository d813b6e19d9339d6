import type { JobEvent } from '../../job/event.ts'
import type { ChildReader, ChildStreams } from './ChildStreams.ts'
import { childLostLine } from './connectionLines.ts'
import type { Reporter } from './Reporter.ts'
import type { Screen } from './Screen.ts'

/** One event a line. With children, theirs come between; each event says whose it is. */
export class JsonReporter implements Reporter {
  readonly #screen: Screen
  readonly #children: ChildStreams | undefined

  /** `children`: undefined where their events are not wanted. */
  constructor(screen: Screen, children: ChildStreams | undefined) {
    this.#screen = screen
    this.#children = children
  }

  async show(event: JobEvent): Promise<void> {
    await this.#screen.json(event)
    if (event.type === 'child.started') this.#children?.follow(event.childId, () => this.#readerOf(event.childId))
    if (event.type === 'child.finished') await this.#children?.readToEnd(event.childId)
  }

  async showResult(): Promise<void> {}

  async finish(): Promise<void> {
    await this.#children?.readAllToEnd()
    for (const childId of this.#children?.unread ?? []) this.#screen.line(childLostLine(childId, undefined))
  }

  leave(): void {}

  #readerOf(childId: string): ChildReader {
    return {
      show: (event) => this.show(event),
      onUnread: (cause) => this.#screen.line(childLostLine(childId, cause)),
    }
  }
}
