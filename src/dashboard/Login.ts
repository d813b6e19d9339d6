import type { ServerApi } from './api/ServerApi.ts'
import { Changes } from './Changes.ts'

/** What becomes of the page where the server asks for a token. */
export class Login {
  readonly changes = new Changes()
  readonly #signal: AbortSignal
  #state: 'not_needed' | 'asked' | 'no_page' = 'not_needed'

  constructor(signal: AbortSignal) {
    this.#signal = signal
  }

  /** Whether the server asks for a token and has no page to give it. */
  get isMissing(): boolean {
    return this.#state === 'no_page'
  }

  /** Where to log in, and come back from to what the page shows. */
  get path(): string {
    const { pathname, search, hash } = location
    return `login?next=${encodeURIComponent(pathname + search + hash)}`
  }

  /** Ends the one that let the page in, and goes to where the next one begins; where that failed, it can be ended there too. */
  async end(api: ServerApi): Promise<void> {
    await api.logOut().catch(() => undefined)
    location.assign('login')
  }

  /** Goes there; once, however often it is asked for. */
  ask(api: ServerApi): void {
    if (this.#state !== 'not_needed') return
    this.#state = 'asked'
    api.hasLoginPage(this.#signal).then(
      (hasPage) => {
        if (hasPage) return location.assign(this.path)
        this.#state = 'no_page'
        return this.changes.note()
      },
      () => {
        this.#state = 'not_needed'
      },
    )
  }
}
