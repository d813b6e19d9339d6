import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { eventually } from '../world.ts'
import { SeenConnection } from './SeenConnection.ts'
import { ChatCompletions, type Encoder, Messages, type Part, type Said, type TokenCount } from './wire.ts'

/** How a request is answered: with a stream of `parts`, or as `status` and `body` say. */
export interface Reply {
  readonly parts?: readonly Part[]
  /** Why it ended, in the words of the server that is played; null: it does not say. Default: as the parts have it. */
  readonly finish?: string | null
  /** Null: it does not say. */
  readonly usage?: TokenCount | null
  /** The head goes out when it settles. */
  readonly beforeHead?: Promise<unknown>
  readonly status?: number
  readonly statusText?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** What a test decides of a request. */
export type Answerer = (request: SeenRequest) => Reply

/** A request as it came. */
export interface SeenRequest {
  /** From 1, in the order in which they came; lists of models are not counted. */
  readonly number: number
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: ModelRequest
  /** The text of the last message of the role `user` that is no tool's result. */
  readonly prompt: string
  /** How many answers of the model stand in it. */
  readonly answers: number
  readonly connection: SeenConnection
}

/** Of a request's body what the tests look at, in both shapes. */
export interface ModelRequest {
  readonly model: string
  readonly messages: readonly ModelMessage[]
  readonly max_tokens?: number
  readonly tools?: readonly object[]
  readonly system?: unknown
}

export interface ModelMessage {
  readonly role: string
  readonly content: string | null | readonly ContentBlock[]
}

interface ContentBlock {
  readonly type: string
  readonly text?: string
}

const USAGE = { input: 10, output: 5 }

/**
 * A model server on a port of its own, which speaks OpenAI's chat completions below `/v1/chat/completions` and Anthropic's messages
 * below `/v1/messages`, says what a test tells it to, and watches its sockets: when the test is over and everything that was opened
 * after it has ended, the other side must have closed every one, and no request may have come that the test had not counted on.
 */
export class FakeModelServer {
  readonly requests: SeenRequest[] = []
  readonly connections: SeenConnection[] = []
  /** What `/v1/models` is answered with. */
  list: Reply = { status: 200, body: JSON.stringify({ data: [{ id: 'first-of-list' }, { id: 'second' }] }) }
  /** Gives the answer to each. */
  lookUp = (): Reply => this.list
  /** How often a list was asked for. */
  lists = 0
  #answer: Answerer = () => says('Done.')
  #sealedAt: number | undefined
  readonly #server = createServer((request, response) => void this.#serve(request, response))
  readonly #bySocket = new WeakMap<Socket, SeenConnection>()

  static async start(): Promise<FakeModelServer> {
    const fake = new FakeModelServer()
    fake.#server.on('connection', (socket: Socket) => {
      const connection = new SeenConnection(socket)
      fake.connections.push(connection)
      fake.#bySocket.set(socket, connection)
    })
    // Nothing but the other side, or a script, closes a connection here.
    fake.#server.keepAliveTimeout = 0
    fake.#server.requestTimeout = 0
    fake.#server.listen(0, '127.0.0.1')
    await once(fake.#server, 'listening')
    onTestFinished(() => fake.#finish())
    return fake
  }

  get baseUrl(): string {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('the fake model server listens on no port')
    return `http://127.0.0.1:${address.port}/v1`
  }

  get openConnections(): number {
    return this.connections.filter(({ isOpen }) => isOpen).length
  }

  /** From now on requests are answered so. */
  answers(answer: Answerer): void {
    this.#answer = answer
  }

  /** Answers the next requests with these, one each, in the order in which they come. One that comes after them fails the test. */
  script(...replies: readonly Reply[]): void {
    const begunAt = this.requests.length
    this.#answer = ({ number }) => {
      const reply = replies[number - begunAt - 1]
      if (reply !== undefined) return reply
      this.#sealedAt ??= number - 1
      return { status: 400, body: JSON.stringify({ error: { message: 'the script has no more answers' } }) }
    }
  }

  /** No request may come any more: looked at now, and again when the test is over. */
  seal(): void {
    this.#sealedAt ??= this.requests.length
    this.#assertSealed()
  }

  /** Settles with the request of this number, once it has come. */
  request(number: number): Promise<SeenRequest> {
    return eventually(`request ${number} has come`, () => this.requests[number - 1])
  }

  /** Settles when the other side has closed all that it had opened; gives how. */
  async untilClosed(): Promise<readonly (string | undefined)[]> {
    await eventually('the model server sees its sockets closed', () => this.openConnections === 0)
    return this.connections.map(({ closedBy }) => closedBy)
  }

  async #finish(): Promise<void> {
    try {
      await this.untilClosed()
      this.#assertSealed()
    } finally {
      this.#server.closeAllConnections()
      this.#server.close()
    }
  }

  #assertSealed(): void {
    if (this.#sealedAt === undefined || this.requests.length === this.#sealedAt) return
    const { prompt, answers } = this.requests[this.#sealedAt] ?? { prompt: '', answers: 0 }
    throw new Error(`a request came after the last one: ${JSON.stringify({ prompt, answers })}`)
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => undefined)
    const connection = this.#bySocket.get(request.socket)
    if (connection === undefined) throw new Error('a request came on no connection')
    connection.requests += 1
    let text = ''
    try {
      for await (const piece of request.setEncoding('utf8')) text += piece
    } catch {
      // It was cut while it was sent.
      return
    }
    const path = request.url ?? ''
    if (path.endsWith('/models')) {
      this.lists += 1
      await this.#send(this.lookUp(), response, new ChatCompletions(), connection)
      return
    }
    const body: ModelRequest = JSON.parse(text)
    const seen: SeenRequest = {
      number: this.requests.length + 1,
      path,
      headers: request.headers,
      body,
      prompt: promptOf(body),
      answers: body.messages.filter(({ role }) => role === 'assistant').length,
      connection,
    }
    this.requests.push(seen)
    const encoder = path.endsWith('/messages') ? new Messages() : new ChatCompletions()
    await this.#send(this.#answer(seen), response, encoder, connection)
  }

  async #send(reply: Reply, response: ServerResponse, encoder: Encoder, connection: SeenConnection): Promise<void> {
    await (reply.beforeHead === undefined ? undefined : Promise.race([reply.beforeHead, connection.closed]))
    if (!connection.isOpen) return
    const { status = 200, statusText, headers, body } = reply
    const type = { 'content-type': body === undefined ? 'text/event-stream' : 'application/json' }
    response.writeHead(status, ...(statusText === undefined ? [] : [statusText]), { ...type, ...headers })
    if (body !== undefined && reply.parts === undefined) {
      response.end(body)
      return
    }
    response.flushHeaders()
    await this.#stream(reply, response, encoder, connection)
  }

  async #stream(reply: Reply, response: ServerResponse, encoder: Encoder, connection: SeenConnection): Promise<void> {
    const { parts = [], usage = USAGE } = reply
    const begin = onlyOnce(() => response.write(encoder.begin()))
    for (const part of parts) {
      if (!connection.isOpen) return
      if ('wait' in part) await Promise.race([part.wait, connection.closed])
      else if ('reached' in part) await flushed(response).then(part.reached)
      else if ('raw' in part) response.write(part.raw)
      else if ('stall' in part) return
      else if ('forever' in part) {
        begin()
        await sayForever(response, () => encoder.say({ text: part.forever }), connection)
      } else if ('rawForever' in part) await sayForever(response, () => part.rawForever, connection)
      else if ('cut' in part) {
        if (part.cut === 'end') response.end()
        else await flushed(response).then(() => connection.cut(part.cut === 'RST' ? 'RST' : 'FIN'))
        return
      } else {
        begin()
        response.write(encoder.say(part))
      }
    }
    if (!connection.isOpen) return
    begin()
    const finish = reply.finish === undefined ? finishOf(parts, encoder) : reply.finish
    response.end(encoder.end(finish, usage))
  }
}

function onlyOnce(work: () => void): () => void {
  let isDone = false
  return () => {
    if (!isDone) work()
    isDone = true
  }
}

/** Settles when the kernel has what was written: what is cut then comes after it. */
async function flushed(response: ServerResponse): Promise<void> {
  await new Promise((resolve) => response.write('', resolve))
  await new Promise((resolve) => setTimeout(resolve, 1))
}

async function sayForever(response: ServerResponse, say: () => string, connection: SeenConnection): Promise<void> {
  while (connection.isOpen) {
    if (!response.write(say())) await Promise.race([once(response, 'drain'), connection.closed])
    await new Promise((resolve) => setImmediate(resolve))
  }
}

function finishOf(parts: readonly Part[], encoder: Encoder): string {
  const hasCalls = parts.some((part) => 'call' in part)
  if (encoder instanceof Messages) return hasCalls ? 'tool_use' : 'end_turn'
  return hasCalls ? 'tool_calls' : 'stop'
}

function promptOf({ messages }: ModelRequest): string {
  return messages.map(textOfUser).findLast((text) => text !== undefined) ?? ''
}

function textOfUser({ role, content }: ModelMessage): string | undefined {
  if (role !== 'user' || content === null) return undefined
  if (typeof content === 'string') return content
  return content.find(({ type }) => type === 'text')?.text
}

/** Says a text, and is done. */
export function says(text: string, more: Omit<Reply, 'parts'> = {}): Reply {
  return { parts: [{ text }], ...more }
}

/** Calls tools, each with its input. */
export function calls(...all: readonly (readonly [tool: string, input: unknown])[]): Reply {
  return { parts: all.map(([call, input]): Said => ({ call, input })) }
}

/** Fails in words that both kinds of clients understand. */
export function failsWith(status: number, message: string, headers: Readonly<Record<string, string>> = {}): Reply {
  return { status, headers, body: JSON.stringify({ type: 'error', error: { message, type: 'error', code: null } }) }
}
