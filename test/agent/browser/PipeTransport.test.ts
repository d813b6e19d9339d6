import { PassThrough } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PipeTransport } from '../../../src/execution/agent/browser/driver/PipeTransport.ts'

function opened() {
  const toBrowser = new PassThrough()
  const fromBrowser = new PassThrough()
  const transport = new PipeTransport(toBrowser, fromBrowser)
  const came: object[] = []
  Object.assign(transport, { onmessage: (message: object) => came.push(message) })
  transport.open()
  return { toBrowser, fromBrowser, transport, came }
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await nextTurn()
}

test('messages come out whole and in order, wherever they are cut', async () => {
  const messages = fc.array(fc.record({ id: fc.nat(), text: fc.string({ unit: 'binary' }) }), { maxLength: 20 })
  await fc.assert(
    fc.asyncProperty(messages, fc.infiniteStream(fc.integer({ min: 1, max: 40 })), async (sent, sizes) => {
      const { fromBrowser, came } = opened()
      const bytes = Buffer.from(sent.map((message) => `${JSON.stringify(message)}\0`).join(''))
      for (let at = 0; at < bytes.length; ) {
        const size = sizes.next().value ?? 1
        fromBrowser.write(bytes.subarray(at, at + size))
        at += size
      }
      await turns(2 * sent.length + 5)
      expect(came).toEqual(sent)
    }),
  )
})

test('each message has a turn of its own', async () => {
  const { fromBrowser, transport } = opened()
  let now = 0
  const seen: number[] = []
  Object.assign(transport, {
    async onmessage() {
      now += 1
      seen.push(now)
      // What one sets off is done before the next comes.
      await Promise.resolve()
      now -= 1
    },
  })
  fromBrowser.write('{"a":1}\0{"a":2}\0{"a":3}\0')
  await turns(10)
  expect(seen).toEqual([1, 1, 1])
})

test('what nobody listens to is dropped, however long it is, and wherever it is cut', async () => {
  const { fromBrowser, came } = opened()
  const unheard = Buffer.from(`{"method":"Runtime.consoleAPICalled","params":{"text":"${'x'.repeat(1000)}"}}\0`)
  for (let at = 1; at < 80; at += 1) {
    fromBrowser.write(unheard.subarray(0, at))
    fromBrowser.write(unheard.subarray(at))
    fromBrowser.write(`{"id":${at}}\0`)
  }
  await turns(400)
  expect(came).toEqual(Array.from({ length: 79 }, (_, index) => ({ id: index + 1 })))
})

test('an answer that is too large is an error for whoever asked, and an event that is, is nothing', async () => {
  const { fromBrowser, came } = opened()
  const megabyte = Buffer.alloc(1024 * 1024, 'x')
  for (const [beginning, end] of [
    ['{"id":7,"result":{"data":"', '"},"sessionId":"ABC123"}\0'],
    ['{"method":"Page.large","params":{"data":"', '"},"sessionId":"ABC123"}\0'],
    ['{"id":8,"result":{"data":"', '"}}\0'],
  ] as const) {
    fromBrowser.write(beginning)
    for (let count = 0; count < 65; count += 1) fromBrowser.write(megabyte)
    fromBrowser.write(end.slice(0, 9))
    fromBrowser.write(end.slice(9))
  }
  fromBrowser.write('{"id":9}\0')
  await turns(1000)
  const error = { code: -32000, message: "the browser's answer is too large" }
  expect(came).toEqual([{ id: 7, error, sessionId: 'ABC123' }, { id: 8, error }, { id: 9 }])
})

test('a browser that says more than is taken has to wait', async () => {
  const { fromBrowser, came } = opened()
  const total = 5000
  let sent = 0
  let waits = 0
  while (sent < total) {
    sent += 1
    if (!fromBrowser.write(`{"id":${sent},"data":"${'x'.repeat(500)}"}\0`)) {
      waits += 1
      await new Promise((resolve) => fromBrowser.once('drain', resolve))
    }
  }
  await turns(total + 10)
  expect(waits).toBeGreaterThan(1)
  expect(came).toHaveLength(total)
})

test('a pipe that breaks closes it once, and what is sent then goes nowhere', async () => {
  const { fromBrowser, toBrowser, transport } = opened()
  let closes = 0
  Object.assign(transport, {
    onclose() {
      closes += 1
    },
  })
  toBrowser.destroy(new Error('broken'))
  fromBrowser.destroy()
  await turns(5)
  expect(closes).toBe(1)
  transport.send({ id: 1 })
  transport.close()
  await turns(5)
  expect(closes).toBe(1)
})
