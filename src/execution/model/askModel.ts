import type { LanguageModelV4, LanguageModelV4CallOptions } from '@ai-sdk/provider'
import { TaskFailure } from '../../job/failure.ts'
import { AnswerBuilder, type ModelAnswer } from './ModelAnswer.ts'
import { modelFailureOf, retryWaitOf } from './modelFailure.ts'
import { WholeCharacters } from './WholeCharacters.ts'

/** One call is made so often at the most, with waits that double between (ms), or longer ones that the server names. */
const MAX_ATTEMPTS = 5
const FIRST_WAIT_MS = 500
const MAX_WAIT_MS = 16_000

/** What a call works with: the parts of `TaskContext` that it needs. */
export interface Asking {
  /** A boundary, also in the middle: a stop or cancel ends the wait. @throws {JobStopped} */
  sleep(ms: number): Promise<void>
  checkpoint(): void
  /** Told before each wait, so that readers see why nothing comes. */
  data(name: string, value: { readonly [key: string]: string | number }): Promise<void>
}

export interface AskOptions extends LanguageModelV4CallOptions {
  /** Text as it comes. */
  readonly onText?: (text: string) => Promise<void>
  readonly onReasoning?: (text: string) => Promise<void>
}

/**
 * Asks a model and reads its answer to the end. A call that fails before anything came of it is made again where that may help
 * (429, 5xx, no connection); one that is cut in the middle is not, since what it had said was shown.
 * @throws {TaskFailure} `TETHER_MODEL_FAILED`, `TETHER_MODEL_UNAUTHORIZED`, `TETHER_MODEL_UNAVAILABLE`, `TETHER_MODEL_TRUNCATED`
 * @throws {JobStopped}
 */
export async function askModel(model: LanguageModelV4, options: AskOptions, asking: Asking): Promise<ModelAnswer> {
  for (let attempt = 1; ; attempt += 1) {
    const builder = new AnswerBuilder()
    try {
      await read(model, options, builder)
      return wholeOf(builder, model.modelId)
    } catch (error) {
      // Which error surfaced says nothing: a job that was cancelled fails in as many ways as there are libraries.
      if (isOwnEnd(error)) throw error
      const retry = builder.hasBegun || attempt >= MAX_ATTEMPTS ? undefined : retryWaitOf(error, Date.now())
      if (retry === undefined) throw modelFailureOf(error, model.modelId)
      // Where the job was asked to stop meanwhile, nobody is told of a call that will not be made.
      asking.checkpoint()
      const ownMs = Math.min(FIRST_WAIT_MS * 2 ** (attempt - 1), MAX_WAIT_MS) * jitter()
      const waitMs = Math.round(Math.max(ownMs, retry.leastMs))
      const reason = modelFailureOf(error, model.modelId).message.slice(0, 500)
      await asking.data('model.retry', { model: model.modelId, attempt, waitMs, reason })
      await asking.sleep(waitMs)
    }
  }
}

async function read(model: LanguageModelV4, options: AskOptions, builder: AnswerBuilder): Promise<void> {
  const { onText, onReasoning, ...call } = options
  const { stream } = await model.doStream(call)
  const text = new WholeCharacters()
  const reasoning = new WholeCharacters()
  for await (const part of stream) {
    builder.take(part)
    if (part.type === 'text-delta') await show(text.push(part.delta), onText)
    else if (part.type === 'reasoning-delta') await show(reasoning.push(part.delta), onReasoning)
  }
  await show(reasoning.end(), onReasoning)
  await show(text.end(), onText)
}

async function show(text: string, onText: ((text: string) => Promise<void>) | undefined): Promise<void> {
  if (text !== '') await onText?.(text)
}

function wholeOf(builder: AnswerBuilder, model: string): ModelAnswer {
  const answer = builder.build()
  switch (builder.finishReason?.unified) {
    case 'length':
      throw new TaskFailure('TETHER_MODEL_TRUNCATED', `the answer of the model ${model} reached its limit of tokens`)
    case 'content-filter':
      throw new TaskFailure(
        'TETHER_MODEL_FAILED',
        `the model server held back the answer of the model ${model} (content filter)`,
      )
    default:
      return answer
  }
}

function isOwnEnd(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError'
}

function jitter(): number {
  return 0.75 + Math.random() / 2
}
