import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { sharedNowMs } from '../clock.ts'
import { answerCalls } from '../Program.ts'
import { readUsage } from '../usage.ts'

let folder: string | undefined
let sqlite: DatabaseSync | undefined
let text = ''
const live = new Set<ServerResponse>()

/** As the other server's events are. */
function frameOf(seq: number, type: string, value: object): string {
  const data = { jobId: `bare_${'0'.repeat(32)}`, seq, type, at: new Date().toISOString(), name: 'item', value }
  return `id: ${seq}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`
}

const server = createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store' })
  if (request.url === '/log') void sendLog(response)
  else {
    response.write(frameOf(0, 'data', {}))
    live.add(response)
    response.once('close', () => live.delete(response))
    pour()
  }
})

/** Frames are kept as they are sent; a page is so many rows. */
async function sendLog(response: ServerResponse): Promise<void> {
  const closed = once(response, 'close')
  const page = sqlite?.prepare('SELECT seq, frame FROM log WHERE seq > ? ORDER BY seq LIMIT 1000')
  let seq = 0
  for (;;) {
    const rows = page?.all(seq) ?? []
    if (rows.length === 0) break
    seq = Number(rows.at(-1)?.['seq'])
    const isTaken = response.write(rows.map((row) => String(row['frame'])).join(''))
    if (!isTaken) await Promise.race([new Promise((resolve) => response.once('drain', resolve)), closed])
    if (response.destroyed) return
  }
  response.end()
}

let isPouring = false
let n = 0

/** 256 events a turn, which is about what a busy log takes together, encoded once for all; whoever is full is left out until it has room. */
function pour(): void {
  if (isPouring) return
  isPouring = true
  const step = (): void => {
    if (live.size === 0) {
      isPouring = false
      return
    }
    let frames = ''
    for (let sent = 0; sent < 256; sent += 1) frames += frameOf((n += 1), 'data', { n, text, sentAtMs: sharedNowMs() })
    const bytes = Buffer.from(frames)
    for (const response of live) if (!response.writableNeedDrain) response.write(bytes)
    setImmediate(step)
  }
  setImmediate(step)
}

const calls = {
  async open(log: { readonly count: number; readonly text: string }): Promise<string> {
    text = log.text
    folder = await mkdtemp(join(tmpdir(), 'tether-bench-bare-'))
    sqlite = new DatabaseSync(join(folder, 'bare.db'))
    sqlite.exec(
      'PRAGMA journal_mode = WAL; CREATE TABLE log (seq INTEGER PRIMARY KEY, frame TEXT NOT NULL) STRICT; BEGIN',
    )
    const insert = sqlite.prepare('INSERT INTO log (seq, frame) VALUES (?, ?)')
    for (let seq = 1; seq <= log.count; seq += 1) insert.run(seq, frameOf(seq, 'data', { n: seq, text }))
    insert.run(log.count + 1, frameOf(log.count + 1, 'job.succeeded', {}))
    sqlite.exec('COMMIT')
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('the baseline listens on no port')
    return `http://127.0.0.1:${address.port}`
  },
  usage: readUsage,
}

export type BareLogCalls = typeof calls

answerCalls(calls, async () => {
  server.closeAllConnections()
  server.close()
  sqlite?.close()
  if (folder !== undefined) await rm(folder, { recursive: true, force: true })
})
