import type { JobEvent } from '../../job/event.ts'
import type { Usage } from '../../job/receipt.ts'
import { durationText } from './duration.ts'
import { countText, usageText } from './usageText.ts'

/** The task whose children are agents that an agent called. */
const AGENT = 'agent'

/** What a job and its children used, as their events tell it. */
export class UsageTally {
  #calls = 0
  #callsOfChildren = 0
  #callsWithUsage = 0
  #usage: Usage = {}
  #tools = 0
  #agents = 0
  #otherChildren = 0
  #unreadChildren = 0

  note(event: JobEvent, options: { readonly isOfChild: boolean }): void {
    switch (event.type) {
      case 'model.started':
        this.#calls += 1
        if (options.isOfChild) this.#callsOfChildren += 1
        return
      case 'model.finished':
        if (event.usage === undefined) return
        this.#callsWithUsage += 1
        this.#usage = sumOf(this.#usage, event.usage)
        return
      case 'tool.started':
        this.#tools += 1
        return
      case 'child.started':
        if (event.task === AGENT) this.#agents += 1
        else this.#otherChildren += 1
        return
      default:
        return
    }
  }

  /** A child's events, or some of them, did not come. */
  noteUnread(): void {
    this.#unreadChildren += 1
  }

  get hasCalls(): boolean {
    return this.#calls > 0
  }

  /** Whether it tells more than the receipt of the job, which knows the job's own calls. */
  get hasCallsOfChildren(): boolean {
    return this.#callsOfChildren > 0
  }

  /** One line, such as `3 model calls, 12,345 tokens in, 678 out, 4 tools, 1 sub-agent included, 14.2 s`. */
  line(tookMs: number): string {
    const parts = [
      this.#callsText(),
      usageText(this.#usage),
      this.#toolsText(),
      this.#childrenText(),
      durationText(tookMs),
    ]
    return parts.filter((part) => part !== '').join(', ')
  }

  #callsText(): string {
    const missing = this.#calls - this.#callsWithUsage
    const text = countText(this.#calls, 'model call')
    return this.#callsWithUsage > 0 && missing > 0 ? `${text} (${missing} without figures)` : text
  }

  #toolsText(): string {
    return this.#tools === 0 ? '' : countText(this.#tools, 'tool')
  }

  #childrenText(): string {
    const children = this.#agents + this.#otherChildren
    if (children === 0) return ''
    const text = countText(children, this.#otherChildren === 0 ? 'sub-agent' : 'child job')
    return this.#unreadChildren === 0 ? `${text} included` : `${text} (${this.#unreadChildren} not counted)`
  }
}

/** The client imports the server's types only. What only one of the two knows counts as that. */
function sumOf(a: Usage, b: Usage): Usage {
  const sum = (of: keyof Usage): Usage => {
    const [first, second] = [a[of], b[of]]
    return first === undefined && second === undefined ? {} : { [of]: (first ?? 0) + (second ?? 0) }
  }
  return { ...sum('inputTokens'), ...sum('outputTokens'), ...sum('totalTokens') }
}
