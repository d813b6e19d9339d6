import type { Health } from '../api/Health.ts'
import type { ServerApi } from '../api/ServerApi.ts'
import { comeBack, untilVisible } from '../api/visibility.ts'
import { Changes } from '../Changes.ts'

const EVERY_MS = 3000

/** What the server says of itself, asked for every few seconds while the page is looked at. */
export class HealthWatch {
  readonly changes = new Changes()
  readonly #api: ServerApi
  #health: Health | undefined

  constructor(api: ServerApi) {
    this.#api = api
  }

  /** Undefined while the server does not answer. */
  get health(): Health | undefined {
    return this.#health
  }

  /** Until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await untilVisible(signal)
      if (signal.aborted) return
      this.#health = await this.#api.health(signal).catch(() => undefined)
      this.changes.note()
      await comeBack(EVERY_MS, signal)
    }
  }
}
