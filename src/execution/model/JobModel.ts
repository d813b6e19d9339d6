import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4GenerateResult,
  LanguageModelV4StreamPart,
  LanguageModelV4StreamResult,
  LanguageModelV4Usage,
} from '@ai-sdk/provider'
import { type Context, context, type Span, SpanKind, trace } from '@opentelemetry/api'
import type { JobScope } from '../../cancellation/JobScope.ts'
import type { TaskEvent } from '../../job/event.ts'
import type { Usage } from '../../job/receipt.ts'
import { failSpan, typeOf } from '../../tracing/inSpan.ts'
import { endSpan, innermost, isTraced, startSpan } from '../../tracing/traces.ts'
import { refusalOf } from '../refusalOf.ts'

export interface ModelSurroundings {
  readonly scope: JobScope
  readonly emit: (event: TaskEvent) => Promise<void>
  /** Told of every call that came to its end. */
  readonly onUsage: (usage: Usage) => void
  /** Takes what is secret out of an error of the server's; returns it. */
  readonly conceal: (error: unknown) => unknown
  /** The job's span; undefined where nobody traces. */
  readonly trace?: Context | undefined
}

/**
 * A model as a job has it: any `LanguageModelV4` (the interface of `@ai-sdk/provider`), whose calls are boundaries, end with the
 * job, stand in its log and count for its receipt. A stop lets the call in flight finish. After a cancel the call throws or its
 * stream errors with the job's `JobStopped`, whatever the provider makes of an abort: some end their stream as if that were all.
 */
export class JobModel implements LanguageModelV4 {
  readonly specificationVersion = 'v4'
  readonly provider: string
  readonly modelId: string
  readonly supportedUrls: LanguageModelV4['supportedUrls']
  readonly #model: LanguageModelV4
  readonly #surroundings: ModelSurroundings

  constructor(model: LanguageModelV4, surroundings: ModelSurroundings) {
    this.provider = model.provider
    this.modelId = model.modelId
    this.supportedUrls = model.supportedUrls
    this.#model = model
    this.#surroundings = surroundings
  }

  /** @throws {JobStopped} */
  async doGenerate(options: LanguageModelV4CallOptions): Promise<LanguageModelV4GenerateResult> {
    const call = await this.#begin(options)
    let usage: Usage | undefined
    try {
      const result = await call.within(() => this.#model.doGenerate({ ...options, abortSignal: call.signal }))
      call.assertWanted()
      usage = usageOf(result.usage)
      return result
    } catch (error) {
      call.noteError(error)
      call.assertWanted()
      throw this.#surroundings.conceal(error)
    } finally {
      await call.end(usage)
    }
  }

  /** The call is under way until its stream is read to its end, or cancelled. @throws {JobStopped} */
  async doStream(options: LanguageModelV4CallOptions): Promise<LanguageModelV4StreamResult> {
    const call = await this.#begin(options)
    try {
      const { stream, ...rest } = await call.within(() =>
        this.#model.doStream({ ...options, abortSignal: call.signal }),
      )
      call.assertWanted()
      return { ...rest, stream: followed(stream, call, this.#surroundings.conceal) }
    } catch (error) {
      call.noteError(error)
      await call.end(undefined)
      call.assertWanted()
      throw this.#surroundings.conceal(error)
    }
  }

  async #begin(options: LanguageModelV4CallOptions): Promise<ModelCall> {
    const { scope, emit } = this.#surroundings
    const refusal = refusalOf(scope)
    if (refusal !== undefined) return refusal
    const call = new ModelCall(this, this.#surroundings, options.abortSignal)
    try {
      await emit({ type: 'model.started', model: this.modelId })
      // A stop that came while the log had no room is met before the request goes out.
      scope.checkpoint()
    } catch (error) {
      call.noteError(error)
      await call.end(undefined)
      throw error
    }
    return call
  }
}

/** One call under way: its signal, its phase, its end. */
class ModelCall {
  readonly #model: string
  readonly #surroundings: ModelSurroundings
  readonly #abort = new AbortController()
  readonly #leave: () => void
  readonly #undos: (() => void)[] = []
  readonly #parent: Context
  readonly #span: Span
  #isOver = false

  constructor(
    { modelId, provider }: Pick<LanguageModelV4, 'modelId' | 'provider'>,
    surroundings: ModelSurroundings,
    own: AbortSignal | undefined,
  ) {
    const { scope } = surroundings
    this.#model = modelId
    this.#surroundings = surroundings
    this.#parent = innermost(surroundings.trace)
    const attributes = {
      'gen_ai.operation.name': 'chat',
      'gen_ai.request.model': modelId,
      'gen_ai.provider.name': provider,
    }
    this.#span = startSpan(`chat ${modelId}`, { kind: SpanKind.CLIENT, attributes }, this.#parent)
    this.#leave = scope.enter('model')
    const isShielded = scope.isShielded
    // Not AbortSignal.any: a job may make thousands of calls, and each would leave something on its signal.
    this.#undos.push(scope.onRequest((kind) => kind === 'cancel' && !isShielded && this.#abort.abort(aborted())))
    if (own === undefined) return
    const onAbort = (): void => this.#abort.abort(own.reason)
    own.addEventListener('abort', onAbort, { once: true })
    this.#undos.push(() => own.removeEventListener('abort', onAbort))
    if (own.aborted) onAbort()
  }

  /** An `AbortError`, since a reason of another kind comes out of a provider as a failure of the server's. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** @throws {JobStopped} where the job was cancelled meanwhile. A stop is for the next boundary. */
  assertWanted(): void {
    const { scope } = this.#surroundings
    if (scope.isCancelled) scope.checkpoint()
  }

  /** Sends the request, with the call's own span in its context where there is one. */
  within<T>(send: () => PromiseLike<T>): PromiseLike<T> {
    return isTraced(this.#span) ? context.with(trace.setSpan(this.#parent, this.#span), send) : send()
  }

  /** What a call fails with that the job was cancelled under says nothing of the model. */
  noteError(error: unknown): void {
    const { scope } = this.#surroundings
    if (scope.isCancelled || scope.isOwnStop(error)) this.#span.addEvent('stopped')
    else failSpan(this.#span, typeOf(error))
  }

  /** Once; later calls do nothing. */
  async end(usage: Usage | undefined): Promise<void> {
    if (this.#isOver) return
    this.#isOver = true
    this.#leave()
    for (const undo of this.#undos) undo()
    if (usage !== undefined) this.#surroundings.onUsage(usage)
    this.#endSpan(usage)
    await this.#surroundings.emit({
      type: 'model.finished',
      model: this.#model,
      ...(usage === undefined ? {} : { usage }),
    })
  }

  #endSpan(usage: Usage | undefined): void {
    if (usage?.inputTokens !== undefined) this.#span.setAttribute('gen_ai.usage.input_tokens', usage.inputTokens)
    if (usage?.outputTokens !== undefined) this.#span.setAttribute('gen_ai.usage.output_tokens', usage.outputTokens)
    endSpan(this.#span)
  }
}

function followed(
  stream: ReadableStream<LanguageModelV4StreamPart>,
  call: ModelCall,
  conceal: ModelSurroundings['conceal'],
): ReadableStream<LanguageModelV4StreamPart> {
  const reader = stream.getReader()
  let usage: Usage | undefined
  return new ReadableStream<LanguageModelV4StreamPart>(
    {
      async pull(controller) {
        try {
          const { done, value } = await reader.read()
          call.assertWanted()
          if (done) {
            await call.end(usage)
            controller.close()
            return
          }
          if (value.type === 'finish') usage = usageOf(value.usage)
          if (value.type === 'error') call.noteError(value.error)
          controller.enqueue(value.type === 'error' ? { ...value, error: conceal(value.error) } : value)
        } catch (error) {
          call.noteError(error)
          await call.end(usage)
          call.assertWanted()
          throw conceal(error)
        }
      },
      async cancel(reason) {
        // First of all the server is to hear of it: the log may have no room for a while.
        await Promise.all([reader.cancel(reason), call.end(usage)])
      },
    },
    { highWaterMark: 0 },
  )
}

function aborted(): DOMException {
  return new DOMException('the job was cancelled', 'AbortError')
}

export function usageOf({ inputTokens, outputTokens }: LanguageModelV4Usage): Usage {
  const input = countOf(inputTokens.total)
  const output = countOf(outputTokens.total)
  return {
    ...(input === undefined ? {} : { inputTokens: input }),
    ...(output === undefined ? {} : { outputTokens: output }),
    ...(input === undefined && output === undefined ? {} : { totalTokens: (input ?? 0) + (output ?? 0) }),
  }
}

/** What a server counts may be anything; what cannot be added up is not counted. */
function countOf(tokens: number | undefined): number | undefined {
  const count = Math.round(tokens ?? -1)
  return Number.isSafeInteger(count) && count >= 0 ? count : undefined
}
