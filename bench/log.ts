import { setTimeout as sleep } from 'node:timers/promises'
import { Program } from './Program.ts'
import type { BareLogCalls } from './programs/bareLogServer.ts'
import type { LogWriterCalls, WriteOrder } from './programs/logWriter.ts'
import type { ReaderCalls } from './programs/readers.ts'
import type { TetherServerCalls } from './programs/tetherServer.ts'
import { figure, median, spread } from './quantile.ts'
import type { StreamOrder } from './StreamSocket.ts'
import { formatTable } from './table.ts'

const ROUNDS = 3
const WRITE_MS = 1500
/** Makes a frame of about 220 bytes. */
const TEXT = '.'.repeat(60)
const LONG_LOG = 100_000
const READERS = 1000
const WINDOW_MS = 1500
const SLOW_READERS = 100
/** 50,000 events of about 2 KB. */
const HEAVY_LOG = { count: 50_000, text: '.'.repeat(1900) }

const TETHER_ENV = { CONCURRENCY: '100', MAX_STREAMS_PER_CLIENT: '10000', MAX_LOG_BYTES: String(2 ** 40) }

const WRITES: readonly { readonly name: string; readonly order: WriteOrder }[] = [
  { name: '1,000 jobs x 1 event', order: { jobs: 1000, perJob: 1, text: TEXT, forMs: WRITE_MS } },
  { name: '100 jobs x 10 events', order: { jobs: 100, perJob: 10, text: TEXT, forMs: WRITE_MS } },
  { name: '1 job x 64 events', order: { jobs: 1, perJob: 64, text: TEXT, forMs: WRITE_MS } },
]

/** What the log costs: writing it, attaching to a long one, many readers, slow ones. */
export async function log(): Promise<void> {
  console.log(formatTable(['written in a turn', 'by', 'events/s', '× bare'], await writing()))
  console.log('Bare is node:sqlite with the same rows in the same transactions, and no index.\n')
  console.log(
    formatTable(['attach to 100,000 events', 'first byte ms', 'whole ms', 'events/s', '× bare'], await attaching()),
  )
  console.log('Bare is node:http and node:sqlite: rows in order, a page at a time, written as they are.\n')
  console.log(formatTable(['1,000 readers of one job', 'events/s', 'MB/s', '× bare'], await many()))
  console.log('Bare writes each turn as one buffer to all, from memory. An event counts once for each reader.\n')
  console.log(formatTable(['10 readers follow', 'events/s', '× alone', 'lag ms p50', 'p99', 'highest'], await beside()))
  console.log('Meanwhile others attach to the 100,000 events of its log, one after the other, over and over.\n')
  const head = ['slow readers of 100 MB', '', 'more RSS MB', 'more heap and buffers MB', 'MB read by each']
  console.log(formatTable(head, await slowly()))
  console.log('The first ones make the process grow to its working size; what the next ones add is their own.')
}

async function writing(): Promise<readonly string[][]> {
  const rows: string[][] = []
  for (const { name, order } of WRITES) {
    await using writer = Program.start<LogWriterCalls>('logWriter')
    const bare: number[] = []
    const tether: number[] = []
    for (let round = 0; round < ROUNDS; round += 1) {
      bare.push(await writer.call('bare', order))
      tether.push(await writer.call('tether', order))
    }
    const baseline = median(bare) ?? Number.NaN
    const ours = median(tether) ?? Number.NaN
    rows.push([name, 'bare', figure(baseline), figure(1)], ['', 'tether', figure(ours), figure(ours / baseline)])
  }
  return rows
}

async function attaching(): Promise<readonly string[][]> {
  await using tether = Program.start<TetherServerCalls>('tetherServer')
  await using bare = Program.start<BareLogCalls>('bareLogServer')
  await using reader = Program.start<ReaderCalls>('readers')
  const url = await tether.call('open', TETHER_ENV)
  const id = await fill(url, { count: LONG_LOG, text: TEXT, perTurn: 0, everyMs: 0 })
  const bareUrl = await bare.call('open', { count: LONG_LOG, text: TEXT })
  const sides = [
    { name: 'bare', order: orderOf(bareUrl, '/log'), last: 'event: job.succeeded' },
    { name: 'tether', order: orderOf(url, `/jobs/${id}/events`), last: 'event: job.succeeded' },
  ]
  const measured = sides.map(() => ({ first: [] as number[], whole: [] as number[] }))
  for (let round = 0; round < ROUNDS * 2; round += 1) {
    for (const [index, side] of sides.entries()) {
      const { firstByteMs, wholeMs } = await reader.call('read', side)
      measured[index]?.first.push(firstByteMs)
      measured[index]?.whole.push(wholeMs)
    }
  }
  const baseline = median(measured[0]?.whole ?? []) ?? Number.NaN
  return measured.map(({ first, whole }, index) => {
    const tookMs = median(whole) ?? Number.NaN
    return [
      sides[index]?.name ?? '',
      figure(median(first)),
      figure(tookMs),
      figure((LONG_LOG / tookMs) * 1000),
      figure(baseline / tookMs),
    ]
  })
}

async function many(): Promise<readonly string[][]> {
  await using tether = Program.start<TetherServerCalls>('tetherServer')
  await using bare = Program.start<BareLogCalls>('bareLogServer')
  const url = await tether.call('open', TETHER_ENV)
  const id = await start(url, { count: 0, text: TEXT, perTurn: 16, everyMs: 0 })
  const bareUrl = await bare.call('open', { count: 0, text: TEXT })
  const sides = [
    { name: 'bare', order: orderOf(bareUrl, '/live') },
    { name: 'tether', order: orderOf(url, `/jobs/${id}/events`) },
  ]
  const rates: { eventsPerS: number; mbPerS: number }[] = []
  for (const { order } of sides) {
    await using reader = Program.start<ReaderCalls>('readers')
    await reader.call('follow', { order, streams: READERS })
    await sleep(WINDOW_MS)
    const before = await reader.call('takeFollowed', undefined)
    await sleep(WINDOW_MS * 2)
    const after = await reader.call('takeFollowed', undefined)
    const bytesPerS = ((after.bytes - before.bytes) / (after.atMs - before.atMs)) * 1000
    rates.push({ eventsPerS: bytesPerS / FRAME_BYTES, mbPerS: bytesPerS / 1e6 })
  }
  const baseline = rates[0]?.eventsPerS ?? Number.NaN
  return rates.map(({ eventsPerS, mbPerS }, index) => [
    sides[index]?.name ?? '',
    figure(eventsPerS),
    figure(mbPerS),
    figure(eventsPerS / baseline),
  ])
}

async function beside(): Promise<readonly string[][]> {
  const rows: string[][] = []
  for (const [name, load] of [
    ['20 events every 5 ms', { perTurn: 20, everyMs: 5 }],
    ['as fast as they go', { perTurn: 64, everyMs: 0 }],
  ] as const) {
    await using tether = Program.start<TetherServerCalls>('tetherServer')
    await using followers = Program.start<ReaderCalls>('readers')
    await using attacher = Program.start<ReaderCalls>('readers')
    const url = await tether.call('open', TETHER_ENV)
    const id = await start(url, { count: LONG_LOG, text: TEXT, ...load })
    const order = orderOf(url, `/jobs/${id}/events?after=${LONG_LOG}`)
    await untilSeq(url, id, LONG_LOG)
    await followers.call('follow', { order, streams: 10 })
    await sleep(WINDOW_MS)
    const alone = await window(followers)
    const over = new AbortController()
    const attaching = attachUntil(over.signal, attacher, url, id)
    await sleep(100)
    const beside = await window(followers)
    over.abort()
    const attached = await attaching
    rows.push(
      [`${name}: alone`, figure(alone.eventsPerS), figure(1), ...spread(alone.lagsMs)],
      [
        `${name}: others attach (${attached})`,
        figure(beside.eventsPerS),
        figure(beside.eventsPerS / alone.eventsPerS),
        ...spread(beside.lagsMs),
      ],
    )
  }
  return rows
}

/** Reads the whole log of the job over and over. Settles with how often. */
async function attachUntil(
  signal: AbortSignal,
  attacher: Program<ReaderCalls>,
  url: string,
  id: string,
): Promise<number> {
  let attached = 0
  while (!signal.aborted) {
    await attacher.call('read', { order: orderOf(url, `/jobs/${id}/events`), last: `\nid: ${LONG_LOG}\n` })
    attached += 1
  }
  return attached
}

async function window(
  followers: Program<ReaderCalls>,
): Promise<{ readonly eventsPerS: number; readonly lagsMs: readonly number[] }> {
  const before = await followers.call('takeFollowed', undefined)
  await sleep(WINDOW_MS * 2)
  const after = await followers.call('takeFollowed', undefined)
  return {
    eventsPerS: ((after.bytes - before.bytes) / FRAME_BYTES / (after.atMs - before.atMs)) * 1000,
    lagsMs: after.lagsMs,
  }
}

async function slowly(): Promise<readonly string[][]> {
  const rows: string[][] = []
  for (const [name, bytesPerTick] of [
    ['read nothing', 0],
    ['read 100 KB/s', 5_000],
    ['read 1 MB/s', 50_000],
  ] as const) {
    await using tether = Program.start<TetherServerCalls>('tetherServer', ['--expose-gc'])
    const url = await tether.call('open', TETHER_ENV)
    const id = await fill(url, { ...HEAVY_LOG, perTurn: 0, everyMs: 0 })
    await sleep(500)
    await using readers = new AsyncDisposableStack()
    let { rssBytes: before, heapBytes: heapBefore } = await tether.call('usage', undefined)
    for (const step of ['the first 100', 'the next 100']) {
      const reader = readers.use(Program.start<ReaderCalls>('readers'))
      const order = orderOf(url, `/jobs/${id}/events`)
      await reader.call('openSlow', { order, streams: SLOW_READERS, bytesPerTick })
      let highest = 0
      let heapHighest = 0
      for (let look = 0; look < 12; look += 1) {
        await sleep(500)
        const { rssBytes, heapBytes } = await tether.call('usage', undefined)
        highest = Math.max(highest, rssBytes)
        heapHighest = Math.max(heapHighest, heapBytes)
      }
      const read = await reader.call('slowBytes', undefined)
      rows.push([
        step === 'the first 100' ? name : '',
        step,
        figure((highest - before) / 1e6),
        figure((heapHighest - heapBefore) / 1e6),
        figure(read / 1e6 / SLOW_READERS),
      ])
      before = highest
      heapBefore = heapHighest
    }
  }
  return rows
}

/** Of the followed events: measured once, as they are all alike. */
const FRAME_BYTES = 252

interface Filling {
  readonly count: number
  readonly text: string
  readonly perTurn: number
  readonly everyMs: number
}

function orderOf(url: string, path: string): StreamOrder {
  return { url, path, begunBy: 'id: ' }
}

async function start(url: string, input: Filling): Promise<string> {
  const answer = await fetch(`${url}/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ task: 'filling', input }),
  })
  const { id }: { readonly id: string } = JSON.parse(await answer.text())
  return id
}

async function untilSeq(url: string, id: string, seq: number): Promise<void> {
  for (;;) {
    const { lastSeq }: { readonly lastSeq: number } = JSON.parse(await (await fetch(`${url}/jobs/${id}`)).text())
    if (lastSeq >= seq) return
    await sleep(20)
  }
}

/** Starts a job and waits for its end. */
async function fill(url: string, input: Filling): Promise<string> {
  const id = await start(url, input)
  await untilSeq(url, id, input.count + 3)
  return id
}
