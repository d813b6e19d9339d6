import { type Attributes, type Context, context, type Span, SpanStatusCode, trace } from '@opentelemetry/api'
import { endSpan, isTraced, startSpan } from './traces.ts'

export interface SpanTerms<T> {
  readonly parent: Context
  readonly attributes: Attributes
  /** An end that was asked for is no error. */
  readonly isExpected: (error: unknown) => boolean
  /** The name of what failed, where that is told by the result. */
  readonly failureIn?: (result: T) => string | undefined
}

/** Does `work` in a span of its own. Where nobody traces it is just done. */
export function inSpan<T>(name: string, terms: SpanTerms<T>, work: () => Promise<T>): Promise<T> {
  const span = startSpan(name, { attributes: terms.attributes }, terms.parent)
  return isTraced(span) ? traced(span, terms, work) : work()
}

async function traced<T>(span: Span, terms: SpanTerms<T>, work: () => Promise<T>): Promise<T> {
  try {
    const result = await context.with(trace.setSpan(terms.parent, span), work)
    const failure = terms.failureIn?.(result)
    if (failure !== undefined) failSpan(span, failure)
    return result
  } catch (error) {
    if (terms.isExpected(error)) span.addEvent('stopped')
    else failSpan(span, typeOf(error))
    throw error
  } finally {
    endSpan(span)
  }
}

export function failSpan(span: Span, type: string): void {
  span.setAttribute('error.type', type)
  span.setStatus({ code: SpanStatusCode.ERROR })
}

/** The code of an error, else its name. Its message may have what is secret. */
export function typeOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
