import { context, propagation, type SpanContext, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from '@opentelemetry/core'
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import { eventually } from '../world.ts'

const exporter = new InMemorySpanExporter()

/** Where it is set, what is registered throws whatever it is told: `onStart`, `onEnd`. */
export const broken = { onStart: false, onEnd: false }

const breaking: SpanProcessor = {
  onStart: () => assertWhole('onStart'),
  onEnd: () => assertWhole('onEnd'),
  forceFlush: async () => undefined,
  shutdown: async () => undefined,
}

function assertWhole(part: keyof typeof broken): void {
  if (broken[part]) throw new Error(`the SDK is broken: ${part}`)
}

/** Registers an SDK that keeps all spans of this process; once a test file, as a program does. */
export function recordSpans(): void {
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter), breaking] }),
  )
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  propagation.setGlobalPropagator(
    new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] }),
  )
}

/** Those that have ended. */
export function allSpans(): readonly ReadableSpan[] {
  return exporter.getFinishedSpans()
}

export function spansOf(traceId: string): readonly ReadableSpan[] {
  return allSpans().filter((span) => span.spanContext().traceId === traceId)
}

/** The span of this name, once it has ended. */
export function spanNamed(traceId: string, name: string): Promise<ReadableSpan> {
  return eventually(`the span ${name} has ended`, () => spansOf(traceId).find((span) => span.name === name))
}

export interface Caller extends Pick<SpanContext, 'traceId' | 'spanId'> {
  readonly headers: Readonly<Record<string, string>>
}

let callers = 0

/** Somebody who has a trace of their own. */
export function newCaller(): Caller {
  callers += 1
  const traceId = `${process.pid}`.padStart(16, '0') + `${callers}`.padStart(16, '0')
  const spanId = 'b7ad6b7169203331'
  return { traceId, spanId, headers: { traceparent: `00-${traceId}-${spanId}-01` } }
}

/** The names on the way from a span to the top, the span's own first. */
export function pathOf(span: ReadableSpan): readonly string[] {
  const names = [span.name]
  const spans = spansOf(span.spanContext().traceId)
  for (let id = span.parentSpanContext?.spanId; id !== undefined; ) {
    const parent = spans.find((other) => other.spanContext().spanId === id)
    names.push(parent?.name ?? id)
    id = parent?.parentSpanContext?.spanId
  }
  return names
}
