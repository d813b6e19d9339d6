import type { FastifyReply } from 'fastify'
import type { Presence } from '../Presence.ts'
import { LiveResponse } from './LiveResponse.ts'
import type { StreamContext } from './StreamContext.ts'

/**
 * A JSON answer that is being waited for: its head is out, and a newline now and then, which JSON allows before a value, keeps
 * proxies from taking the connection for idle.
 */
export class PendingAnswer extends LiveResponse {
  readonly kind = 'outcome'
  protected readonly sentEvents = 0
  readonly #open: StreamContext['open']

  constructor(presence: Presence, context: Pick<StreamContext, 'open' | 'counters'>) {
    super(presence, context.counters)
    this.#open = context.open
  }

  protected get heartbeat(): string {
    return '\n'
  }

  /** Sends the head, and takes the response out of Fastify's hands. */
  start(reply: FastifyReply, headers: Readonly<Record<string, string>>): void {
    this.presence.attach(this)
    reply.headers({ 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store', ...headers })
    for (const [name, value] of Object.entries(reply.getHeaders())) {
      if (value !== undefined) this.raw.setHeader(name, value)
    }
    reply.hijack()
    reply.request.body = undefined
    this.noteBegin()
    this.raw.writeHead(200)
    this.raw.flushHeaders()
    this.#open.add(this)
  }

  answer(value: unknown): void {
    if (this.isOver) return
    this.#finish()
    this.raw.end(JSON.stringify(value))
  }

  /** The head said 200, so a destroyed socket is all that is left to say that no answer comes. */
  fail(): void {
    if (this.isOver) return
    this.#finish()
    this.raw.destroy()
  }

  override shutDown(): void {
    this.fail()
  }

  override onClosed(): void {
    this.#finish()
    this.#open.remove(this)
  }

  #finish(): void {
    this.isOver = true
    this.presence.release()
  }
}
