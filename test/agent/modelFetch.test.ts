import { expect, test } from 'vitest'
import { modelFetch } from '../../src/resources/model/modelFetch.ts'

const STREAMED = { method: 'POST', body: '{"stream":true}' }

/** A body that never ends; `cancelled` says whether its reader has let it go. */
function endless() {
  const seen = { isCancelled: false }
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(16 * 1024).fill(120)),
    cancel: () => {
      seen.isCancelled = true
    },
  })
  return { seen, body }
}

test('an error is read as far as anybody looks at it, and no further', async () => {
  const { seen, body } = endless()
  const fetch = modelFetch(async () => new Response(body, { status: 503, headers: { 'retry-after': '7' } }), String)
  const response = await fetch('http://model/', STREAMED)
  expect(response.status).toBe(503)
  expect(response.headers.get('retry-after')).toBe('7')
  expect(await response.text()).toHaveLength(64 * 1024)
  expect(seen.isCancelled).toBe(true)
})

test.each([STREAMED, { method: 'GET' }])('an answer without end is given up ($method)', async (init) => {
  const { seen, body } = endless()
  const headers = { 'content-type': 'text/event-stream' }
  const response = await modelFetch(async () => new Response(body, { headers }), String)('http://model/', init)
  await expect(response.text()).rejects.toThrow(/has more than \d+ bytes/)
  expect(seen.isCancelled).toBe(true)
})

test.each(['data: [DONE]\n\n', 'event: message_stop\ndata: {"type": "message_stop"  }\n\n'])(
  'a stream ends with %j, and its body is let go',
  async (last) => {
    let isCancelled = false
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(Buffer.from(`: first\n\n${last}`)),
      cancel: () => {
        isCancelled = true
      },
    })
    const headers = { 'content-type': 'text/event-stream' }
    const response = await modelFetch(async () => new Response(body, { headers }), String)('http://model/', STREAMED)
    expect(await response.text()).toContain(last)
    expect(isCancelled).toBe(true)
  },
)

test('a key is taken out of what is told before that is cut', async () => {
  const key = `sk-${'secret'.repeat(30)}`
  const message = `${'x'.repeat(100)} bad key ${key}`
  const fetch = modelFetch(
    async () => Response.json({ error: { message } }),
    (text) => text.replaceAll(key, '[redacted]'),
  )
  const failure = await fetch('http://model/', STREAMED).catch(String)
  expect(failure).toContain('bad key [redacted]')
  expect(failure).not.toContain('sk-')
})
