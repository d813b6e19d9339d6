import type { LanguageModelV4, LanguageModelV4CallOptions } from '@ai-sdk/provider'
import { TaskFailure } from '../../job/failure.ts'
import { AnswerBuilder, type ModelAnswer } from './ModelAnswer.ts'
import { modelFailureOf } from './modelFailure.ts'
import { type Asking, repeated } from './repeated.ts'
import { WholeCharacters } from './WholeCharacters.ts'

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
  let builder = new AnswerBuilder()
  const call = {
    model: model.modelId,
    make: async () => {
      builder = new AnswerBuilder()
      await read(model, options, builder)
      return wholeOf(builder, model.modelId)
    },
    hasBegun: () => builder.hasBegun,
  }
  try {
    return await repeated(call, asking)
  } catch (error) {
    // Which error surfaced says nothing: a job that was cancelled fails in as many ways as there are libraries.
    throw isOwnEnd(error) ? error : modelFailureOf(error, model.modelId)
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
