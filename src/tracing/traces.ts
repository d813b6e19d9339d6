import {
  type Context,
  context,
  diag,
  INVALID_SPAN_CONTEXT,
  propagation,
  ROOT_CONTEXT,
  type Span,
  type SpanOptions,
  trace,
} from '@opentelemetry/api'
import type { TraceCarrier } from '../job/trace.ts'

/** Spans of no SDK cost next to nothing; where one is registered later, this one takes it up. */
const tracer = trace.getTracer('tether')

const NO_SPAN = trace.wrapSpanContext(INVALID_SPAN_CONTEXT)

/** To be ended with `endSpan`. */
export function startSpan(name: string, options: SpanOptions, parent: Context): Span {
  return trying(NO_SPAN, () => tracer.startSpan(name, options, parent))
}

export function endSpan(span: Span, at?: Date): void {
  trying(undefined, () => span.end(at))
}

/**
 * An SDK that somebody registered is code of theirs: what it throws must cost neither a request nor a job. Samplers, processors and
 * propagators run in what is called here; attributes and events of a span are only kept by it until then, so those are set as they are.
 */
function trying<T>(otherwise: T, work: () => T): T {
  try {
    return work()
  } catch (error) {
    diag.error('tether could not trace', error)
    return otherwise
  }
}

/** What a job carries of its trace is stored with it: longer than this it is no trace. */
const MAX_CARRIER_UNITS = 1024

/** The trace that a request belongs to: what runs already (an SDK that instruments HTTP), else what its headers say. */
export function traceOfRequest(headers: Readonly<Record<string, string | string[] | undefined>>): Context {
  const active = context.active()
  return trace.getSpan(active) === undefined ? extract(headers) : active
}

/** Undefined where there is no trace. Baggage stays behind: what a client put into it is not ours to store. */
export function carrierOf(from: Context): TraceCarrier | undefined {
  const carrier: Record<string, string> = {}
  trying(undefined, () => propagation.inject(propagation.deleteBaggage(from), carrier))
  const units = Object.entries(carrier).reduce((sum, [name, value]) => sum + name.length + value.length, 0)
  return units === 0 || units > MAX_CARRIER_UNITS ? undefined : carrier
}

export function traceOfCarrier(carrier: TraceCarrier | undefined): Context {
  return carrier === undefined ? ROOT_CONTEXT : extract(carrier)
}

function extract(carrier: unknown): Context {
  return trying(ROOT_CONTEXT, () => propagation.extract(ROOT_CONTEXT, carrier))
}

/** Whether anybody, here or further on, has a use for it. */
export function isTraced(span: Span): boolean {
  return trace.isSpanContextValid(span.spanContext())
}

/**
 * What is begun now belongs below what runs, such as a tool, and below the job where nothing is known of that. (Where an SDK comes
 * without a context manager, nothing ever is.)
 */
export function innermost(job: Context | undefined): Context {
  const active = context.active()
  return trace.getSpan(active) === undefined ? (job ?? active) : active
}
