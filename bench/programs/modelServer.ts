import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type Ended, sharedNowMs } from '../clock.ts'
import { answerCalls } from '../Program.ts'

/** What the last user message of a request says, which is how a bench tells this server what to do with it. */
export type ModelOrder =
  /** Begins to answer, and goes on when it is told to. */
  | { readonly kind: 'stalling'; readonly id: string }
  /** Says so many tokens, as fast as they are taken. */
  | { readonly kind: 'fast'; readonly id: string; readonly tokens: number }
  /** Does not answer. */
  | { readonly kind: 'silent'; readonly id: string }

/** Tokens that are written at once: who reads is to wait for nothing. */
const TOKENS_A_WRITE = 256

const HEAD = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'bench' }
const TOKEN = frameOf([{ index: 0, delta: { content: ' token' }, finish_reason: null }])
const END = `${frameOf([{ index: 0, delta: {}, finish_reason: 'stop' }])}data: [DONE]\n\n`

let closed: Ended[] = []
const stalling = new Map<string, ServerResponse>()

const server = createServer((request, response) => void serve(request, response))
server.keepAliveTimeout = 0

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const order = await orderOf(request)
  response.once('close', () => {
    closed.push({ id: order.id, atMs: sharedNowMs() })
    stalling.delete(order.id)
  })
  if (order.kind === 'silent') return
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.write(TOKEN)
  if (order.kind === 'stalling') stalling.set(order.id, response)
  else await sayFast(response, order.tokens)
}

async function orderOf(request: IncomingMessage): Promise<ModelOrder> {
  let body = ''
  for await (const piece of request.setEncoding('utf8')) body += piece
  // Our own client wrote it.
  const { messages } = JSON.parse(body) as { messages: { role: string; content: string }[] }
  return JSON.parse(messages.findLast(({ role }) => role === 'user')?.content ?? '') as ModelOrder
}

async function sayFast(response: ServerResponse, tokens: number): Promise<void> {
  const many = TOKEN.repeat(TOKENS_A_WRITE)
  const gone = once(response, 'close')
  for (let left = tokens - 1; left > 0 && !response.destroyed; left -= TOKENS_A_WRITE) {
    const hasRoom = response.write(left >= TOKENS_A_WRITE ? many : TOKEN.repeat(left))
    if (!hasRoom) await Promise.race([new Promise((resolve) => response.once('drain', resolve)), gone])
  }
  response.end(END)
}

function frameOf(choices: readonly object[]): string {
  return `data: ${JSON.stringify({ ...HEAD, choices })}\n\n`
}

const calls = {
  async open(): Promise<string> {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('the model server listens on no port')
    return `http://127.0.0.1:${address.port}/v1`
  },
  /** Lets an answer that stalls come to its end; gives when that was handed to the kernel. */
  finish(id: string): number {
    const response = stalling.get(id)
    if (response === undefined) throw new Error(`no answer to ${id} is stalling`)
    response.end(END)
    return sharedNowMs()
  },
  /** The answers that ended since this was last asked, by their end or by that of their connection. */
  takeClosed(): readonly Ended[] {
    const taken = closed
    closed = []
    return taken
  },
}

export type ModelServerCalls = typeof calls

answerCalls(calls, async () => {
  server.closeAllConnections()
  server.close()
})
