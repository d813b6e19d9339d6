import { type Attributes, type Context, type Span, SpanKind } from '@opentelemetry/api'
import type { JobScope } from '../../cancellation/JobScope.ts'
import type { TaskEvent } from '../../job/event.ts'
import { failSpan } from '../../tracing/inSpan.ts'
import { endSpan, startSpan } from '../../tracing/traces.ts'

/** A process that begins more than this at a time and ends none has made a mistake. */
const MAX_OPEN = 1000

/**
 * Spans of what a task does in a process of its own, made here from the events that it sends: there is no SDK over there. Two calls
 * of one model at the same time are told apart by their order alone.
 */
export class RelayedSpans {
  readonly #job: Context
  readonly #scope: Pick<JobScope, 'isStopRequested'>
  readonly #tools = new Map<string, Span>()
  readonly #calls: { readonly model: string; readonly span: Span }[] = []

  constructor(job: Context, scope: Pick<JobScope, 'isStopRequested'>) {
    this.#job = job
    this.#scope = scope
  }

  take(event: TaskEvent): void {
    switch (event.type) {
      case 'tool.started':
        // A number that is used again would lose the span that had it.
        this.#endTool(event.callId, true)
        if (this.#tools.size < MAX_OPEN) this.#tools.set(event.callId, this.#beginTool(event.tool, event.callId))
        return
      case 'tool.finished':
        this.#endTool(event.callId, event.ok)
        return
      case 'model.started':
        if (this.#calls.length < MAX_OPEN) this.#calls.push({ model: event.model, span: this.#beginCall(event.model) })
        return
      case 'model.finished': {
        const place = this.#calls.findIndex(({ model }) => model === event.model)
        const [call] = place === -1 ? [] : this.#calls.splice(place, 1)
        if (event.usage?.inputTokens !== undefined) {
          call?.span.setAttribute('gen_ai.usage.input_tokens', event.usage.inputTokens)
        }
        if (event.usage?.outputTokens !== undefined) {
          call?.span.setAttribute('gen_ai.usage.output_tokens', event.usage.outputTokens)
        }
        if (call !== undefined) endSpan(call.span)
        return
      }
      default:
    }
  }

  /** The process is gone: what it had begun has ended with it. */
  close(): void {
    for (const span of [...this.#tools.values(), ...this.#calls.map((call) => call.span)]) {
      span.addEvent('stopped')
      endSpan(span)
    }
    this.#tools.clear()
    this.#calls.length = 0
  }

  #beginTool(tool: string, callId: string): Span {
    const attributes = {
      'gen_ai.operation.name': 'execute_tool',
      'gen_ai.tool.name': tool,
      'gen_ai.tool.call.id': callId,
    }
    return this.#begin(`execute_tool ${tool}`, SpanKind.INTERNAL, attributes)
  }

  #beginCall(model: string): Span {
    const attributes = { 'gen_ai.operation.name': 'chat', 'gen_ai.request.model': model }
    return this.#begin(`chat ${model}`, SpanKind.CLIENT, attributes)
  }

  #begin(name: string, kind: SpanKind, attributes: Attributes): Span {
    return startSpan(name, { kind, attributes }, this.#job)
  }

  #endTool(callId: string, ok: boolean): void {
    const span = this.#tools.get(callId)
    if (span === undefined) return
    this.#tools.delete(callId)
    if (!ok && this.#scope.isStopRequested) span.addEvent('stopped')
    else if (!ok) failSpan(span, 'tool_failed')
    endSpan(span)
  }
}
