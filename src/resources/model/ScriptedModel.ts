import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4Content,
  LanguageModelV4GenerateResult,
  LanguageModelV4Prompt,
  LanguageModelV4StreamPart,
  LanguageModelV4StreamResult,
  LanguageModelV4Usage,
} from '@ai-sdk/provider'
import { type ScriptedTurn, scriptedTurn } from './script.ts'

/** Words come this fast: to be watched, and to be stopped in the middle of. */
const WORD_MS = 40

/** About what a token is, in characters. */
const CHARS_PER_TOKEN = 4

/**
 * A model that thinks nothing: what it says and which tools it calls is written down (script.ts), and depends on the conversation
 * alone. It is what a server without any key or model server has, so that the agent's loop, its tools and their ends can be seen
 * at work; and it streams, counts tokens and is aborted like any other.
 */
export class ScriptedModel implements LanguageModelV4 {
  readonly specificationVersion = 'v4'
  readonly provider = 'scripted'
  readonly modelId = 'scripted'
  readonly supportedUrls = {}

  async doGenerate(options: LanguageModelV4CallOptions): Promise<LanguageModelV4GenerateResult> {
    const turn = scriptedTurn(options.prompt)
    const text: LanguageModelV4Content[] = turn.text === '' ? [] : [{ type: 'text', text: turn.text }]
    return {
      content: [...text, ...turn.calls],
      finishReason: finishOf(turn),
      usage: usageOf(options.prompt, turn),
      warnings: [],
    }
  }

  /** Streams a word at a time. Errors with the reason of `abortSignal` where that fires. */
  async doStream({ prompt, abortSignal }: LanguageModelV4CallOptions): Promise<LanguageModelV4StreamResult> {
    abortSignal?.throwIfAborted()
    const turn = scriptedTurn(prompt)
    const parts = partsOf(prompt, turn)
    let timer: NodeJS.Timeout | undefined
    let onAbort: (() => void) | undefined
    const over = (): void => {
      clearTimeout(timer)
      if (onAbort !== undefined) abortSignal?.removeEventListener('abort', onAbort)
    }
    const stream = new ReadableStream<LanguageModelV4StreamPart>({
      start(controller) {
        onAbort = () => {
          over()
          controller.error(abortSignal?.reason)
        }
        abortSignal?.addEventListener('abort', onAbort, { once: true })
        const next = (): void => {
          const { done, value } = parts.next()
          if (done === true) {
            over()
            controller.close()
            return
          }
          controller.enqueue(value)
          if (value.type === 'text-delta') timer = setTimeout(next, WORD_MS)
          else next()
        }
        next()
      },
      cancel: over,
    })
    return { stream }
  }
}

function* partsOf(prompt: LanguageModelV4Prompt, turn: ScriptedTurn): Generator<LanguageModelV4StreamPart, void> {
  yield { type: 'stream-start', warnings: [] }
  if (turn.text !== '') {
    yield { type: 'text-start', id: 'text' }
    for (const word of turn.text.match(/\s*\S+\s*/g) ?? []) yield { type: 'text-delta', id: 'text', delta: word }
    yield { type: 'text-end', id: 'text' }
  }
  yield* turn.calls
  yield { type: 'finish', usage: usageOf(prompt, turn), finishReason: finishOf(turn) }
}

function finishOf(turn: ScriptedTurn): LanguageModelV4GenerateResult['finishReason'] {
  return turn.calls.length > 0 ? { unified: 'tool-calls', raw: 'tool_calls' } : { unified: 'stop', raw: 'stop' }
}

function usageOf(prompt: LanguageModelV4Prompt, turn: ScriptedTurn): LanguageModelV4Usage {
  const input = Math.ceil(JSON.stringify(prompt).length / CHARS_PER_TOKEN)
  const output = Math.ceil((turn.text.length + JSON.stringify(turn.calls).length) / CHARS_PER_TOKEN)
  return {
    inputTokens: { total: input, noCache: input, cacheRead: 0, cacheWrite: 0 },
    outputTokens: { total: output, text: output, reasoning: 0 },
  }
}
