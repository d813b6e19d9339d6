import { getEventListeners } from 'node:events'
import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4GenerateResult,
  LanguageModelV4StreamPart,
} from '@ai-sdk/provider'
import { describe, expect, test } from 'vitest'
import { JobScope } from '../../src/cancellation/JobScope.ts'
import { JobModel } from '../../src/execution/model/JobModel.ts'
import type { CancelKind, CancellationRequest } from '../../src/job/cancellation.ts'
import type { TaskEvent } from '../../src/job/event.ts'
import type { Usage } from '../../src/job/receipt.ts'

const NONE = { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined }
const FINISH = {
  type: 'finish',
  finishReason: { unified: 'stop', raw: 'stop' },
  usage: { inputTokens: { ...NONE, total: 3 }, outputTokens: { total: 4, text: 4, reasoning: 0 } },
} satisfies LanguageModelV4StreamPart

/** A model that keeps the signal of each call, and does what a test says. */
class PlayedModel implements LanguageModelV4 {
  readonly specificationVersion = 'v4'
  readonly provider = 'played'
  readonly modelId = 'played'
  readonly supportedUrls = {}
  readonly signals: AbortSignal[] = []
  parts: readonly LanguageModelV4StreamPart[] = [FINISH]
  /** Whether the stream, or the answer, never ends by itself; like some providers it just ends where it is aborted. */
  isEndless = false
  failure: Error | undefined

  async doGenerate({ abortSignal }: LanguageModelV4CallOptions): Promise<LanguageModelV4GenerateResult> {
    const signal = this.#keep(abortSignal)
    if (this.isEndless) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    return { content: [], finishReason: FINISH.finishReason, usage: FINISH.usage, warnings: [] }
  }

  async doStream({ abortSignal }: LanguageModelV4CallOptions) {
    const signal = this.#keep(abortSignal)
    const stream = new ReadableStream<LanguageModelV4StreamPart>({
      start: (controller) => {
        for (const part of this.parts) controller.enqueue(part)
        if (this.isEndless) signal.addEventListener('abort', () => controller.close(), { once: true })
        else controller.close()
      },
    })
    return { stream }
  }

  #keep(signal: AbortSignal | undefined): AbortSignal {
    if (this.failure !== undefined) throw this.failure
    if (signal === undefined) throw new Error('a call has a signal')
    this.signals.push(signal)
    return signal
  }
}

function requestOf(kind: CancelKind): CancellationRequest {
  return { kind, cause: `${kind}_requested`, reason: '', requestedAt: 0, requestedAtMs: 0 }
}

function open() {
  const scope = new JobScope(() => undefined)
  const played = new PlayedModel()
  const events: TaskEvent[] = []
  const used: Usage[] = []
  const model = new JobModel(played, {
    scope,
    emit: async (event) => void events.push(event),
    onUsage: (usage) => used.push(usage),
    conceal: (error) => error,
  })
  return { scope, played, model, events, used }
}

async function readAll(model: LanguageModelV4, abortSignal?: AbortSignal): Promise<readonly string[]> {
  const { stream } = await model.doStream({ prompt: [], ...(abortSignal === undefined ? {} : { abortSignal }) })
  const types: string[] = []
  for await (const part of stream) types.push(part.type)
  return types
}

async function generate(model: LanguageModelV4, abortSignal?: AbortSignal): Promise<readonly string[]> {
  await model.doGenerate({ prompt: [], ...(abortSignal === undefined ? {} : { abortSignal }) })
  return ['finish']
}

describe.each([
  ['doStream', readAll],
  ['doGenerate', generate],
] as const)('%s of a job’s model', (_name, call) => {
  test('hands the model a signal that a cancel fires, with an AbortError; a stop does not', async () => {
    const { scope, played, model } = open()
    played.isEndless = true
    const reading = call(model)
    await Promise.resolve()
    await expect.poll(() => played.signals).toHaveLength(1)
    scope.request(requestOf('stop'))
    expect(played.signals[0]?.aborted).toBe(false)
    scope.request(requestOf('cancel'))
    expect(played.signals[0]?.aborted).toBe(true)
    expect(played.signals[0]?.reason).toMatchObject({ name: 'AbortError' })
    // The model just ends: what the caller meets is the cancel all the same.
    await expect(reading).rejects.toMatchObject({ name: 'AbortError', why: 'cancel_requested' })
  })

  test('lets go of everything at its end: a later cancel reaches no call that is over', async () => {
    const { scope, played, model, events, used } = open()
    const own = new AbortController()
    for (let n = 0; n < 3; n += 1) expect(await call(model, own.signal)).toEqual(['finish'])
    expect(getEventListeners(own.signal, 'abort')).toEqual([])
    expect(scope.phase).toBe('running')
    scope.request(requestOf('cancel'))
    own.abort()
    expect(played.signals.map(({ aborted }) => aborted)).toEqual([false, false, false])
    expect(events.map(({ type }) => type)).toEqual([
      'model.started',
      'model.finished',
      'model.started',
      'model.finished',
      'model.started',
      'model.finished',
    ])
    expect(used).toEqual(Array.from({ length: 3 }, () => ({ inputTokens: 3, outputTokens: 4, totalTokens: 7 })))
  })

  test('lets go of everything also where it fails', async () => {
    const { scope, played, model, events } = open()
    const own = new AbortController()
    const fails = new Error('on purpose')
    played.failure = fails
    await expect(call(model, own.signal)).rejects.toBe(fails)
    expect(getEventListeners(own.signal, 'abort')).toEqual([])
    expect(scope.phase).toBe('running')
    expect(events.map(({ type }) => type)).toEqual(['model.started', 'model.finished'])
  })

  test('is aborted by the caller’s own signal, with its reason', async () => {
    const { played, model } = open()
    played.isEndless = true
    const own = new AbortController()
    const reading = call(model, own.signal)
    await expect.poll(() => played.signals).toHaveLength(1)
    own.abort(new Error('mine'))
    expect(played.signals[0]?.reason).toMatchObject({ message: 'mine' })
    await reading
  })

  test('in shielded code goes on after a cancel', async () => {
    const { scope, played, model } = open()
    scope.request(requestOf('cancel'))
    expect(await scope.shield(() => call(model))).toEqual(['finish'])
    expect(played.signals[0]?.aborted).toBe(false)
  })

  test.each(['stop', 'cancel'] as const)('is not begun after a %s, and says nothing in the log', async (kind) => {
    const { scope, played, model, events } = open()
    scope.request(requestOf(kind))
    await expect(call(model)).rejects.toMatchObject({ name: 'AbortError', why: `${kind}_requested` })
    expect(played.signals).toEqual([])
    expect(events).toEqual([])
  })
})
