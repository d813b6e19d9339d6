import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { TaskContext } from '../../src/execution/task.ts'
import type { Json } from '../../src/job/json.ts'
import { ask, jobOf } from '../server/requests.ts'
import { eventually, Gate, openWorld, taskOf } from '../world.ts'
import { ended, runAgent, startAgent } from './agentWorld.ts'
import { answerOf, Origin } from './Origin.ts'

type Body = (ctx: TaskContext) => Promise<Json | undefined | void>

async function openWith(body: Body): Promise<string> {
  const { url } = await openWorld({ tasks: [taskOf('body', body)] })
  return url
}

/** Runs one function as a job, to its end. */
async function run(body: Body): Promise<Json | undefined> {
  const { view } = await runAgent(await openWith(body), { task: 'body', input: null })
  expect(view.failure).toBeUndefined()
  return view.result
}

interface Phase {
  readonly name: string
  /** What the origin does with a request. */
  readonly origin: (socket: Socket, received: { text: string }) => void
  /** What the task does; it never comes to its end by itself. */
  readonly body: (ctx: TaskContext, origin: Origin, reached: () => void) => Promise<unknown>
  readonly until?: (origin: Origin) => Promise<unknown>
  readonly requests: number
  /** Whether the call of `fetch` itself is what waits. */
  readonly isPending: boolean
}

const stall = (): void => undefined

const PHASES: readonly Phase[] = [
  {
    name: 'that is being connected, its handshake unanswered',
    origin: stall,
    body: (ctx, { host }) => ctx.fetch(`https://${host}/`),
    until: (origin) => eventually('it is connected', () => origin.connections.length === 1),
    requests: 1,
    isPending: true,
  },
  {
    name: 'that waits for its head',
    origin: stall,
    body: (ctx, { url }) => ctx.fetch(url),
    until: (origin) => eventually('it is asked', () => origin.connections[0]?.requests === 1),
    requests: 1,
    isPending: true,
  },
  {
    name: 'that has half of its head',
    origin: (socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-'),
    body: (ctx, { url }) => ctx.fetch(url),
    until: (origin) => eventually('it is asked', () => origin.connections[0]?.requests === 1),
    requests: 1,
    isPending: true,
  },
  {
    name: 'whose body has stalled in the middle',
    origin: (socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf'),
    async body(ctx, { url }, reached) {
      const response = await ctx.fetch(url)
      for await (const chunk of response.body ?? []) if (chunk.length === 4) reached()
    },
    requests: 1,
    isPending: false,
  },
  {
    name: 'whose body has no end',
    origin: (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      const timer = setInterval(() => socket.write('x'.repeat(10_000)), 1)
      socket.once('close', () => clearInterval(timer))
    },
    async body(ctx, { url }, reached) {
      const response = await ctx.fetch(url)
      let length = 0
      for await (const chunk of response.body ?? []) {
        length += chunk.length
        if (length > 100_000) reached()
      }
    },
    requests: 1,
    isPending: false,
  },
  {
    name: 'whose body nobody reads',
    origin: (socket) => socket.write(`HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n${'x'.repeat(1_000_000)}`),
    async body(ctx, { url }, reached) {
      const response = await ctx.fetch(url)
      reached()
      await ctx.sleep(60_000)
      return response
    },
    requests: 1,
    isPending: false,
  },
  {
    name: 'that sends a body which never ends',
    origin: stall,
    body: (ctx, { url }) =>
      ctx.fetch(url, {
        method: 'POST',
        duplex: 'half',
        body: new ReadableStream({
          start(controller) {
            controller.enqueue(new TextEncoder().encode('begun'))
          },
        }),
      }),
    until: (origin) => eventually('it has begun', () => origin.received[0]?.text.includes('begun')),
    requests: 1,
    isPending: true,
  },
  {
    name: 'that sends more than the other side takes',
    // Who does not read does not see the end either: it reads again once the job is over.
    origin(socket) {
      socket.pause()
      setTimeout(() => socket.resume(), 300)
    },
    body: (ctx, { url }) => ctx.fetch(url, { method: 'POST', body: new Uint8Array(16 * 1024 * 1024) }),
    until: (origin) => eventually('it has begun', () => origin.connections[0]?.requests === 1),
    requests: 1,
    isPending: true,
  },
  {
    name: 'that was sent on to where nothing comes',
    origin: (socket, { text }) => {
      if (text.includes('GET /far')) return
      socket.write('HTTP/1.1 302 Found\r\nlocation: /far\r\ncontent-length: 0\r\n\r\n')
    },
    body: (ctx, { url }) => ctx.fetch(url),
    until: (origin) =>
      eventually('it is asked again', () => origin.received.some(({ text }) => text.includes('GET /far'))),
    requests: 1,
    isPending: true,
  },
  {
    name: 'that is over, its connection kept for the next',
    origin: (socket) => socket.write(answerOf('whole')),
    async body(ctx, { url }, reached) {
      await (await ctx.fetch(url)).text()
      reached()
      await ctx.sleep(60_000)
    },
    requests: 0,
    isPending: false,
  },
]

describe.each(PHASES)('a request $name', ({ origin: handler, body, until, requests, isPending }) => {
  test('is closed by a cancel, though nobody passed a signal', async () => {
    const origin = await Origin.start(handler)
    const there = new Gate()
    let met: unknown
    const url = await openWith(async (ctx) => {
      await body(ctx, origin, () => there.open()).catch((error: unknown) => {
        met = error
        throw error
      })
    })
    const id = await startAgent(url, { task: 'body', input: null })
    await (until?.(origin) ?? there.opened)
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({
      status: 'cancelled',
      receipt: { confirmed: true, released: { requests } },
    })
    expect(await origin.untilClosed()).not.toContain('server')
    if (isPending) expect(met).toMatchObject({ name: 'AbortError', why: 'cancel_requested' })
  })

  test('is left alone by a stop, and closed when the job ends', async () => {
    const origin = await Origin.start(handler)
    const there = new Gate()
    const goOn = new Gate()
    const url = await openWith(async (ctx) => {
      body(ctx, origin, () => there.open()).catch(() => undefined)
      await goOn.opened
    })
    const id = await startAgent(url, { task: 'body', input: null })
    await (until?.(origin) ?? there.opened)
    await ask(url, `/jobs/${id}/stop`, { method: 'POST' })
    await eventually('it is stopping', async () => (await jobOf(url, id)).status === 'stopping')
    expect(origin.connections.at(-1)?.isOpen).toBe(true)
    goOn.open()
    expect((await ended(url, id)).terminal).toBe(true)
    expect(await origin.untilClosed()).not.toContain('server')
  })
})

describe('cleanup that is shielded', () => {
  const told: string[] = []

  test.each(['defer', 'finally'] as const)('in a %s can still fetch after a cancel', async (where) => {
    const origin = await Origin.start((socket) => socket.write(answerOf('noted')))
    const stalled = await Origin.start()
    told.length = 0
    const note = async (ctx: TaskContext): Promise<void> => {
      told.push(await (await ctx.fetch(`${origin.url}/bye`, { method: 'DELETE' })).text())
    }
    const url = await openWith(async (ctx) => {
      if (where === 'defer') ctx.defer(() => note(ctx))
      try {
        await ctx.fetch(stalled.url)
      } finally {
        if (where === 'finally') await ctx.shield(() => note(ctx))
      }
    })
    const id = await startAgent(url, { task: 'body', input: null })
    await eventually('it waits', () => stalled.connections[0]?.requests === 1)
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect(told).toEqual(['noted'])
    expect(origin.received[0]?.text).toContain('DELETE /bye')
    expect([...(await origin.untilClosed()), ...(await stalled.untilClosed())]).not.toContain('server')
  })

  test('outside of a shield nothing more is sent', async () => {
    const origin = await Origin.start()
    const more = await Origin.start()
    let met: unknown
    const url = await openWith(async (ctx) => {
      await ctx.fetch(origin.url).catch(() => undefined)
      await ctx.fetch(more.url).catch((error: unknown) => {
        met = error
      })
    })
    const id = await startAgent(url, { task: 'body', input: null })
    await eventually('it waits', () => origin.connections[0]?.requests === 1)
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(met).toMatchObject({ name: 'AbortError', why: 'cancel_requested' })
    expect(more.connections).toEqual([])
  })
})

describe('ctx.fetch', () => {
  /** An origin that answers with what it was sent, once that is whole. */
  function echo(): Promise<Origin> {
    return Origin.start((socket, received) => {
      const answer = (): void => {
        const [head = '', ...rest] = received.text.split('\r\n\r\n')
        const body = rest.join('\r\n\r\n')
        const length = /^content-length: (\d+)$/im.exec(head)?.[1]
        const isWhole = /^transfer-encoding: chunked$/im.test(head)
          ? body.endsWith('0\r\n\r\n') || body.endsWith('0')
          : body.length >= Number(length ?? 0)
        if (isWhole) socket.end(answerOf(received.text, 'connection: close\r\n'))
        else setTimeout(answer, 1)
      }
      answer()
    })
  }

  /** What came of a request at the other side. */
  async function sent(make: (url: string) => [input: string | URL | Request, init?: RequestInit]): Promise<string> {
    const origin = await echo()
    const result = await run(async (ctx) => (await ctx.fetch(...make(`${origin.url}/path`))).text())
    return typeof result === 'string' ? result : JSON.stringify(result)
  }

  test('takes a URL, an object of one, and headers of every kind', async () => {
    expect(await sent((url) => [url])).toMatch(/^GET \/path HTTP\/1\.1\r\n/)
    expect(await sent((url) => [new URL(url), { headers: { 'x-a': '1' } }])).toContain('x-a: 1')
    expect(await sent((url) => [url, { headers: new Headers({ 'x-b': '2' }) }])).toContain('x-b: 2')
    expect(await sent((url) => [url, { headers: [['x-c', '3']] }])).toContain('x-c: 3')
  })

  test('takes a Request, with its method, its headers and its body, and lets what stands beside it win', async () => {
    const text = await sent((url) => [
      new Request(url, { method: 'PUT', headers: { 'content-type': 'text/x', 'x-a': '1' }, body: 'a body' }),
    ])
    expect(text).toMatch(/^PUT \/path HTTP/)
    expect(text).toContain('content-type: text/x')
    expect(text).toContain('x-a: 1')
    expect(text).toContain('a body')
    const other = await sent((url) => [
      new Request(url, { method: 'PUT', body: 'one' }),
      { method: 'POST', body: 'two' },
    ])
    expect(other).toMatch(/^POST \/path HTTP/)
    expect(other).toContain('two')
    expect(other).not.toContain('one')
  })

  test('heeds what a Request says of redirects and of its own signal', async () => {
    const origin = await Origin.start((socket) => {
      socket.write('HTTP/1.1 302 Found\r\nlocation: /far\r\ncontent-length: 0\r\n\r\n')
    })
    const status = await run(async (ctx) => {
      const response = await ctx.fetch(new Request(origin.url, { redirect: 'manual' }))
      return response.status
    })
    expect(status).toBe(302)
    const stalled = await Origin.start()
    const why = await run(async (ctx) => {
      const abort = new AbortController()
      const asked = ctx.fetch(new Request(stalled.url, { signal: abort.signal }))
      await eventually('it waits', () => stalled.connections[0]?.requests === 1)
      abort.abort(new Error('enough'))
      return asked.then(() => 'answered').catch((error: unknown) => String(error))
    })
    expect(why).toBe('Error: enough')
  })

  test.each<[string, () => NonNullable<RequestInit['body']>, string]>([
    ['a text', () => 'a text', 'a text'],
    ['bytes', () => new TextEncoder().encode('bytes'), 'bytes'],
    ['a blob', () => new Blob(['a ', 'blob'], { type: 'text/x-blob' }), 'a blob'],
    ['a form', () => new URLSearchParams({ a: '1 2' }), 'a=1+2'],
    ['a form with files', formWithFile, 'the file'],
    ['a stream', () => new Blob(['a stream']).stream(), 'a stream'],
  ])('sends %s', async (name, body, wanted) => {
    const text = await sent((url) => [url, { method: 'POST', body: body(), duplex: 'half' }])
    expect(text).toContain(wanted)
    if (name === 'a form with files') {
      expect(text).toMatch(/content-type: multipart\/form-data; boundary=/)
      expect(text).toContain('name="field"\r\n\r\nvalue')
      expect(text).toContain('name="file"; filename="a.txt"\r\nContent-Type: text/plain')
    }
    if (name === 'a blob') expect(text).toContain('content-type: text/x-blob')
    if (name === 'a form') expect(text).toContain('content-type: application/x-www-form-urlencoded')
  })

  test('aborts one request by its signal, and no other', async () => {
    const [first, second] = [
      await Origin.start(),
      await Origin.start((socket) => setTimeout(() => socket.write(answerOf('whole')), 50)),
    ]
    const result = await run(async (ctx) => {
      const abort = new AbortController()
      const one = ctx.fetch(first.url, { signal: abort.signal }).catch((error: unknown) => String(error))
      const other = ctx.fetch(second.url)
      await eventually('both wait', () => first.connections.length + second.connections.length === 2)
      abort.abort()
      const name = await one
      await eventually('it is closed', () => first.connections.every(({ isOpen }) => !isOpen))
      return [typeof name === 'string' ? name : '', await (await other).text()]
    })
    expect(result).toEqual([expect.stringContaining('AbortError'), 'whole'])
  })

  test('gives the platform’s errors where nobody is asked to end', async () => {
    const result = await run((ctx) =>
      ctx
        .fetch('http://127.0.0.1:4/')
        .then(() => 'answered')
        .catch((error: unknown) => String(error)),
    )
    expect(result).toContain('TypeError: fetch failed')
  })

  test('sends nothing once its job has ended', async () => {
    const origin = await Origin.start()
    const later = new Gate()
    const over = Promise.withResolvers<unknown>()
    await run(async (ctx) => {
      void later.opened.then(() => ctx.fetch(origin.url)).catch(over.resolve)
    })
    later.open()
    expect(String(await over.promise)).toContain('the job has ended')
    expect(origin.connections).toEqual([])
  })

  test('has connections that are its job’s own: the end of one touches no other', async () => {
    const gate = new Gate()
    const origin = await Origin.start((socket) => void gate.opened.then(() => socket.write(answerOf('whole'))))
    const url = await openWith(async (ctx) => (await ctx.fetch(origin.url)).text())
    const first = await startAgent(url, { task: 'body', input: null })
    await eventually('the first waits', () => origin.connections[0]?.requests === 1)
    const second = await startAgent(url, { task: 'body', input: null })
    await eventually('the second waits', () => origin.connections[1]?.requests === 1)
    await ask(url, `/jobs/${first}/cancel?wait=20`, { method: 'POST' })
    await delay(5)
    expect(origin.connections.map(({ isOpen }) => isOpen)).toEqual([false, true])
    gate.open()
    expect(await ended(url, second)).toMatchObject({ status: 'succeeded', result: 'whole' })
  })
})

function formWithFile(): FormData {
  const form = new FormData()
  form.append('field', 'value')
  form.append('file', new Blob(['the file'], { type: 'text/plain' }), 'a.txt')
  return form
}
