import { EventMeter } from './EventMeter.ts'

/** Of one answer as it comes over the wire. Nobody reads that much; the limit on what is in it is met long before. */
const MAX_STREAM_BYTES = 128 * 1024 * 1024

/** A server that ends its answer does it at once, and its connection is there for the next call. One that does not is left. */
const END_WAIT_MS = 100

/** Dispatches the last event, whatever ended its line. */
const BLANK_LINE = new TextEncoder().encode('\n\n')

/**
 * A stream of events that has an end, as its events have: its last one makes the answer whole, and what becomes of the connection
 * after it says nothing of the answer. When this ends, the body is over or cancelled.
 */
export function streamOf(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  const reader = body.getReader()
  const events = new EventMeter()
  let bytes = 0

  async function lastIn(chunk: Uint8Array): Promise<number | undefined> {
    try {
      bytes += chunk.length
      if (bytes > MAX_STREAM_BYTES) throw new Error(`its answer has more than ${MAX_STREAM_BYTES} bytes`)
      return events.take(chunk)
    } catch (error) {
      await reader.cancel(error)
      throw error
    }
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read()
        if (done) {
          controller.close()
          return
        }
        const end = await lastIn(value)
        controller.enqueue(value.subarray(0, end))
        if (end === undefined) return
        controller.enqueue(BLANK_LINE)
        await untilOver(reader)
        controller.close()
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  )
}

/** Settles when the body has ended, however it did, or was cancelled because it does not. */
async function untilOver(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  const timer = setTimeout(() => void reader.cancel().catch(() => undefined), END_WAIT_MS)
  try {
    while (!(await reader.read()).done);
  } catch {
    // The connection broke after the answer was whole.
  } finally {
    clearTimeout(timer)
  }
}
