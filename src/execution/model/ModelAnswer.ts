import type {
  LanguageModelV4FinishReason,
  LanguageModelV4Message,
  LanguageModelV4StreamPart,
  LanguageModelV4ToolCall,
} from '@ai-sdk/provider'
import { TaskFailure } from '../../job/failure.ts'
import type { Usage } from '../../job/receipt.ts'
import { shownName } from '../shownTool.ts'
import { usageOf } from './JobModel.ts'
import { parseToolInput } from './toolInput.ts'

type AssistantContent = Extract<LanguageModelV4Message, { role: 'assistant' }>['content']
type AssistantPart = AssistantContent[number]
type Metadata = { providerMetadata?: LanguageModelV4ToolCall['providerMetadata'] }

/** What a model said in one call, whole. */
export interface ModelAnswer {
  readonly text: string
  /** In the order in which the model made them; `input` is the JSON as it came, which may be none. */
  readonly calls: readonly LanguageModelV4ToolCall[]
  readonly usage: Usage
  /** As it belongs into the conversation, with what the provider wants back (signatures of reasoning). */
  readonly message: LanguageModelV4Message
}

/** The stream ended without saying that it is whole: the connection broke, or the server failed. */
export class CutAnswer extends Error {
  override readonly name = 'CutAnswer'

  /** `cause` is what the connection or the stream said of it. */
  static by(cause: unknown): CutAnswer {
    return new CutAnswer(`the model server broke off: ${wordsOf(cause)}`, { cause })
  }
}

/** A server that says more in one answer than any model can (UTF-16 units) says it for ever, and all of it is kept here. */
const MAX_ANSWER_UNITS = 16 * 1024 * 1024

interface Block {
  readonly kind: 'text' | 'reasoning'
  text: string
  metadata: Metadata['providerMetadata']
}

/** Gathers the parts of one answer's stream. */
export class AnswerBuilder {
  readonly #parts: (Block | LanguageModelV4ToolCall)[] = []
  readonly #open = new Map<string, Block>()
  readonly #callIds = new Set<string>()
  #finish: { readonly reason: LanguageModelV4FinishReason; readonly usage: Usage } | undefined
  #error: unknown
  #hasError = false
  #units = 0

  /** Whether anything came that a reader was shown. Of a call of a tool nothing is, until the answer is whole. */
  get hasBegun(): boolean {
    return this.#parts.some((part) => 'kind' in part && part.text !== '')
  }

  get finishReason(): LanguageModelV4FinishReason | undefined {
    return this.#finish?.reason
  }

  /** @throws {TaskFailure} `TETHER_MODEL_FAILED` where the answer has no end */
  take(part: LanguageModelV4StreamPart): void {
    if ('delta' in part) this.#count(part.delta)
    if ('toolName' in part) this.#count(part.toolName)
    switch (part.type) {
      case 'text-start':
        this.#begin('text', part.id, part)
        return
      case 'reasoning-start':
        this.#begin('reasoning', part.id, part)
        return
      case 'text-delta':
      case 'reasoning-delta':
        this.#extend(part.id, part.delta, part)
        return
      case 'text-end':
      case 'reasoning-end':
        this.#extend(part.id, '', part)
        this.#open.delete(part.id)
        return
      case 'tool-call':
        this.#parts.push({ ...part, toolCallId: this.#unusedId(part.toolCallId) })
        return
      case 'finish':
        this.#finish = { reason: part.finishReason, usage: usageOf(part.usage) }
        return
      case 'error':
        this.#hasError = true
        this.#error = part.error
        return
      default:
    }
  }

  /**
   * The answer, once the stream has ended. A provider may end a stream that was cut as if that were all: only one that finished,
   * for a reason that the server itself gave, and without an error, is whole.
   * @throws {CutAnswer} with what the stream said of it as its cause
   */
  build(): ModelAnswer {
    const finish = this.#finish
    if (this.#hasError) throw CutAnswer.by(this.#error)
    if (finish === undefined || finish.reason.raw === undefined || finish.reason.unified === 'error') {
      throw new CutAnswer('the model server broke off its answer')
    }
    const calls = this.#parts.filter((part) => 'toolCallId' in part)
    const text = this.#parts.map((part) => ('kind' in part && part.kind === 'text' ? part.text : '')).join('')
    return {
      text,
      calls,
      usage: finish.usage,
      message: { role: 'assistant', content: this.#parts.flatMap(assistantPartOf) },
    }
  }

  /** What is told of a call goes by its id: a server that gives one twice would take neither back. */
  #unusedId(id: string): string {
    let unused = id
    for (let n = 2; this.#callIds.has(unused); n += 1) unused = `${id}_${n}`
    this.#callIds.add(unused)
    return unused
  }

  #count(delta: string): void {
    this.#units += delta.length
    if (this.#units <= MAX_ANSWER_UNITS) return
    throw new TaskFailure(
      'TETHER_MODEL_FAILED',
      `an answer of a model may have ${MAX_ANSWER_UNITS} characters, this one has more`,
    )
  }

  #begin(kind: Block['kind'], id: string, { providerMetadata }: Metadata): void {
    const block: Block = { kind, text: '', metadata: providerMetadata }
    this.#open.set(id, block)
    this.#parts.push(block)
  }

  #extend(id: string, delta: string, { providerMetadata }: Metadata): void {
    const block = this.#open.get(id)
    if (block === undefined) return
    block.text += delta
    block.metadata = providerMetadata ?? block.metadata
  }
}

function assistantPartOf(part: Block | LanguageModelV4ToolCall): AssistantPart[] {
  if ('kind' in part) {
    const options = part.metadata === undefined ? {} : { providerOptions: part.metadata }
    // A provider refuses empty text that comes back.
    return part.text === '' && part.metadata === undefined ? [] : [{ type: part.kind, text: part.text, ...options }]
  }
  const { toolCallId, toolName, input, providerMetadata } = part
  const options = providerMetadata === undefined ? {} : { providerOptions: providerMetadata }
  return [{ type: 'tool-call', toolCallId, toolName: shownName(toolName), input: inputToSend(input), ...options }]
}

/** What was no object goes back as an empty one: providers take objects only, and the tool's result says what was wrong. */
function inputToSend(json: string): object {
  const input = parseToolInput(json)
  if (!('value' in input)) return {}
  const { value } = input
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {}
}

/** What is at the bottom of an error, or of what a server sent as one: the layers above it only say that there was one. */
function wordsOf(error: unknown): string {
  let current = error
  for (let depth = 0; depth < 8 && current instanceof Error && current.cause instanceof Error; depth += 1) {
    current = current.cause
  }
  if (typeof current === 'string') return current
  if (typeof current !== 'object' || current === null || !('message' in current))
    return JSON.stringify(current) ?? 'without a word'
  return typeof current.message === 'string' ? current.message : JSON.stringify(current.message)
}
