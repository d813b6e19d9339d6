import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { type Ended, sharedNowMs } from '../clock.ts'
import { answerCalls } from '../Program.ts'
import { readUsage } from '../usage.ts'
import type { LoadOrder } from './loadTasks.ts'

/** `joined`: the frames of one turn in one write, else a write for each, as people do. */
export type BareOrder = LoadOrder & { readonly beginAt: number; readonly joined: boolean }

let ended: Ended[] = []
let begun = 0

const server = createServer((request, response) => {
  begun += 1
  // As long as the ids that it is compared with.
  const id = `bare_${String(begun).padStart(32, '0')}`
  response.once('close', () => ended.push({ id, atMs: sharedNowMs() }))
  void serve(id, request, response)
})

async function serve(id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const order = await orderOf(request)
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store, no-transform',
    'x-tether-job-id': id,
  })
  response.write('retry: 1000\n\nevent: job.started\ndata: {}\n\n')
  await sleep(Math.max(0, order.beginAt - Date.now()))
  if (order.kind === 'ticking') await writeTicks(id, response, order.intervalMs)
  else await writeBursts(id, response, order)
}

async function orderOf(request: IncomingMessage): Promise<BareOrder> {
  let body = ''
  for await (const piece of request.setEncoding('utf8')) body += piece
  // Our own client wrote it.
  return JSON.parse(body) as BareOrder
}

async function writeTicks(id: string, response: ServerResponse, intervalMs: number): Promise<void> {
  for (let n = 1; ; n += 1) {
    await new Promise((resolve) => setTimeout(resolve, intervalMs))
    if (response.destroyed) return
    response.write(frameOf(id, n, 'output', { channel: 'text', text: `tick ${n}\n` }))
  }
}

async function writeBursts(
  id: string,
  response: ServerResponse,
  { perTurn, text, joined }: Extract<BareOrder, { kind: 'bursting' }>,
): Promise<void> {
  for (let n = 0; !response.destroyed; ) {
    let frames = ''
    let hasRoom = true
    for (let sent = 0; sent < perTurn; sent += 1) {
      const frame = frameOf(id, (n += 1), 'data', { name: 'item', value: { n, text } })
      if (joined) frames += frame
      else hasRoom = response.write(frame)
    }
    if (joined) hasRoom = response.write(frames)
    // 'drain' does not come where the client has gone.
    if (!hasRoom) await Promise.race([once(response, 'drain'), once(response, 'close')])
    await turn()
  }
}

/** Frame for frame what the other server sends. */
function frameOf(jobId: string, seq: number, type: string, data: object): string {
  const json = JSON.stringify({ jobId, seq, type, at: new Date().toISOString(), ...data })
  return `id: ${seq}\nevent: ${type}\ndata: ${json}\n\n`
}

const calls = {
  async open(): Promise<string> {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('the baseline listens on no port')
    return `http://127.0.0.1:${address.port}`
  },
  /** The streams whose end was seen since this was last asked. */
  takeEnded(): readonly Ended[] {
    const taken = ended
    ended = []
    return taken
  },
  usage: readUsage,
}

export type BareServerCalls = typeof calls

answerCalls(calls, async () => {
  server.closeAllConnections()
  server.close()
  await sleep(0)
})
