import { AsyncLocalStorage } from 'node:async_hooks'
import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4GenerateResult,
  LanguageModelV4StreamResult,
} from '@ai-sdk/provider'

const connections = new AsyncLocalStorage<typeof globalThis.fetch>()

/** What a model is made with that many jobs share: the connections of the job whose call it is. */
export const fetchOfCaller: typeof globalThis.fetch = (input, init) => {
  const fetch = connections.getStore()
  if (fetch === undefined) throw new Error('a shared model is called through a ConnectedModel only')
  return fetch(input, init)
}

/**
 * A model that many jobs share, as one of them calls it: over its own connections. To make a model takes more than a millisecond
 * and 80 KiB (its schemas), and an agent may have dozens of sub-agents.
 */
export class ConnectedModel implements LanguageModelV4 {
  readonly specificationVersion = 'v4'
  readonly provider: string
  readonly modelId: string
  readonly supportedUrls: LanguageModelV4['supportedUrls']
  readonly #model: LanguageModelV4
  readonly #fetch: typeof globalThis.fetch

  /** `model` must have been made with `fetchOfCaller`. */
  constructor(model: LanguageModelV4, fetch: typeof globalThis.fetch) {
    this.provider = model.provider
    this.modelId = model.modelId
    this.supportedUrls = model.supportedUrls
    this.#model = model
    this.#fetch = fetch
  }

  doGenerate(options: LanguageModelV4CallOptions): PromiseLike<LanguageModelV4GenerateResult> {
    return connections.run(this.#fetch, () => this.#model.doGenerate(options))
  }

  doStream(options: LanguageModelV4CallOptions): PromiseLike<LanguageModelV4StreamResult> {
    return connections.run(this.#fetch, () => this.#model.doStream(options))
  }
}
