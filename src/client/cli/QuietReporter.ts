import type { JobEvent } from '../../job/event.ts'
import type { Json } from '../../job/json.ts'
import type { Reporter } from './Reporter.ts'
import { readableResult } from './result.ts'
import type { Screen } from './Screen.ts'

/** The result alone. */
export class QuietReporter implements Reporter {
  readonly #screen: Screen
  #task: string | undefined

  constructor(screen: Screen) {
    this.#screen = screen
  }

  async show(event: JobEvent): Promise<void> {
    if (event.type === 'job.queued') this.#task = event.job.task
    if (event.type === 'job.succeeded') await this.#screen.value(readableResult(this.#task, event.result))
  }

  async showResult(task: string, result: Json): Promise<void> {
    await this.#screen.value(readableResult(task, result))
  }

  async finish(): Promise<void> {}

  leave(): void {}
}
