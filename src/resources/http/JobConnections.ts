import { Socket } from 'node:net'
import {
  Agent,
  buildConnector,
  type Dispatcher,
  fetch,
  type RequestInit,
  FormData as UndiciFormData,
  Request as UndiciRequest,
} from 'undici'

/** A server that answers slowly, as models do, may be silent for this long before its head and between two pieces of its body. */
const SILENCE_MS = 300_000
const CONNECT_TIMEOUT_MS = 10_000

/**
 * The connections of one job. They are its own, so that destroying them closes every socket at once, in every phase of a request,
 * also of those to which nobody passed a signal, and touches no other job. Node's own `fetch` leaves idle sockets behind after an
 * abort, and does not work with an agent of the package undici: this is the package's.
 */
export class JobConnections {
  readonly #agent = new Agent({
    allowH2: false,
    headersTimeout: SILENCE_MS,
    bodyTimeout: SILENCE_MS,
    connect: (options, callback) => this.#connect(options, callback),
  })
  readonly #connector = buildConnector({ allowH2: false, timeout: CONNECT_TIMEOUT_MS })
  readonly #connecting = new Set<Socket>()
  readonly #dispatcher: Dispatcher
  #openCount = 0
  #isDestroyed = false

  constructor() {
    this.#dispatcher = this.#agent.compose((dispatch) => (options, handler) => {
      this.#openCount += 1
      return dispatch(options, new CountedHandler(handler, () => (this.#openCount -= 1)))
    })
  }

  /** Requests whose answer is not read to its end. */
  get openCount(): number {
    return this.#openCount
  }

  get isDestroyed(): boolean {
    return this.#isDestroyed
  }

  /** As the platform's `fetch`, over these connections. */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    const dispatched = { ...withOwnForm(init), dispatcher: this.#dispatcher } as RequestInit
    return fetch(input instanceof Request ? requestOf(input) : input, dispatched)
  }

  /** Closes every socket now. Settles when they are closed; what was under way rejects. Twice is harmless. */
  async destroy(): Promise<void> {
    this.#isDestroyed = true
    for (const socket of this.#connecting) socket.destroy(new Error('the connections of the job were closed'))
    await this.#agent.destroy()
  }

  /** The agent lets a socket that is being connected, its name looked up or its handshake unanswered, come to its own end. */
  #connect(options: buildConnector.Options, callback: buildConnector.Callback): void {
    const socket: unknown = this.#connector(options, (...result) => {
      if (socket instanceof Socket) this.#connecting.delete(socket)
      callback(...result)
    })
    if (socket instanceof Socket) this.#connecting.add(socket)
  }
}

/** The package takes no form of the platform's class, and would send its name. */
function withOwnForm(init: globalThis.RequestInit | undefined): object | undefined {
  if (!(init?.body instanceof FormData)) return init
  const form = new UndiciFormData()
  for (const [name, value] of init.body) form.append(name, value)
  return { ...init, body: form }
}

/** The package takes no request of the platform's class. */
function requestOf(request: Request): UndiciRequest {
  const { url, method, headers, body, redirect, signal } = request
  const init = { method, headers: [...headers], body, redirect, signal, ...(body === null ? {} : { duplex: 'half' }) }
  return new UndiciRequest(url, init as unknown as RequestInit)
}

/** Hands everything on, and says once that the request is over. */
class CountedHandler implements Dispatcher.DispatchHandler {
  readonly #handler: Dispatcher.DispatchHandler
  #onOver: (() => void) | undefined

  constructor(handler: Dispatcher.DispatchHandler, onOver: () => void) {
    this.#handler = handler
    this.#onOver = onOver
  }

  onRequestStart: NonNullable<Dispatcher.DispatchHandler['onRequestStart']> = (...args) =>
    this.#handler.onRequestStart?.(...args)

  onRequestUpgrade: NonNullable<Dispatcher.DispatchHandler['onRequestUpgrade']> = (...args) => {
    this.#over()
    this.#handler.onRequestUpgrade?.(...args)
  }

  onResponseStart: NonNullable<Dispatcher.DispatchHandler['onResponseStart']> = (...args) =>
    this.#handler.onResponseStart?.(...args)

  onResponseData: NonNullable<Dispatcher.DispatchHandler['onResponseData']> = (...args) =>
    this.#handler.onResponseData?.(...args)

  onResponseEnd: NonNullable<Dispatcher.DispatchHandler['onResponseEnd']> = (...args) => {
    this.#over()
    this.#handler.onResponseEnd?.(...args)
  }

  onResponseError: NonNullable<Dispatcher.DispatchHandler['onResponseError']> = (...args) => {
    this.#over()
    this.#handler.onResponseError?.(...args)
  }

  #over(): void {
    this.#onOver?.()
    this.#onOver = undefined
  }
}
