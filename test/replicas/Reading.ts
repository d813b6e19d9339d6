import { onTestFinished } from 'vitest'
import type { JobEvent } from '../../src/job/event.ts'
import { isStatus, isTerminal } from '../../src/job/status.ts'
import { eventually, parseFrames } from '../world.ts'

/** One open stream of a job's events, read as they come. It is left when the test ends. */
export class Reading {
  readonly status: number
  readonly headers: Headers
  /** Settles when the stream has ended, whether or not it was cut off in the middle. */
  readonly over: Promise<void>
  readonly #leaving: AbortController
  #text = ''

  private constructor(answer: Response, leaving: AbortController) {
    this.status = answer.status
    this.headers = answer.headers
    this.#leaving = leaving
    this.over = this.#read(answer)
  }

  static async open(url: string, init: RequestInit = {}): Promise<Reading> {
    const leaving = new AbortController()
    onTestFinished(() => leaving.abort())
    return new Reading(await fetch(url, { ...init, signal: leaving.signal }), leaving)
  }

  get jobId(): string {
    return this.headers.get('x-tether-job-id') ?? ''
  }

  /** Of all frames that are complete. */
  get events(): readonly JobEvent[] {
    return parseFrames(this.#text.slice(0, this.#text.lastIndexOf('\n\n') + 1))
  }

  get lastId(): number {
    return this.events.at(-1)?.seq ?? 0
  }

  /** What the job has said on `stdout` and `text`. */
  get output(): string {
    return this.events.map((event) => (event.type === 'output' ? event.text : '')).join('')
  }

  get terminal(): readonly JobEvent[] {
    return this.events.filter(isTerminalEvent)
  }

  leave(): void {
    this.#leaving.abort()
  }

  /** The terminal event, once it is there and the stream is over. */
  async untilEnded(deadlineMs?: number): Promise<JobEvent> {
    const ended = await eventually(`${this.jobId} has ended`, () => this.terminal[0], deadlineMs)
    await this.over
    return ended
  }

  async untilSaid(text: string): Promise<void> {
    await eventually(`the job says ${JSON.stringify(text)}`, () => this.output.includes(text))
  }

  async #read(answer: Response): Promise<void> {
    try {
      for await (const chunk of answer.body?.pipeThrough(new TextDecoderStream()) ?? []) this.#text += chunk
    } catch {
      // Left by us, or cut off with the death of the server: what came until then counts.
    }
  }
}

function isTerminalEvent({ type }: JobEvent): boolean {
  const [, status = ''] = type.split('.')
  return type.startsWith('job.') && isStatus(status) && isTerminal(status)
}
