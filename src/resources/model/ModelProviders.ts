import type { LanguageModelV4 } from '@ai-sdk/provider'
import type { ModelSettings } from '../../config.ts'
import { TaskFailure } from '../../job/failure.ts'
import { ConnectedModel, fetchOfCaller } from './ConnectedModel.ts'
import { chooseModel, type ModelChoice } from './chooseModel.ts'
import { concealSecrets } from './concealSecrets.ts'
import { isTemporaryStatus } from './isTemporaryStatus.ts'
import { modelFetch } from './modelFetch.ts'
import { withoutRedirects } from './withoutRedirects.ts'

const OPENAI_BASE_URL = 'https://api.openai.com/v1'
const ANTHROPIC_BASE_URL = 'https://api.anthropic.com/v1'
const ANTHROPIC_VERSION = '2023-06-01'

/** A list of models is short; what is longer is none. */
const MAX_LIST_BYTES = 4 * 1024 * 1024

/** It goes into every request, event and message. */
const MODEL_NAME = /^[!-~]{1,200}$/

const MAX_KEPT_MODELS = 100

type Named = Extract<ModelChoice, { provider: 'openai' | 'anthropic' }> & { readonly name: string }

/**
 * Opens models by the settings of the server. Providers are loaded when the first job wants one (60 to 70 ms each), and the first
 * model of a server is asked for once.
 */
export class ModelProviders {
  readonly settings: ModelSettings
  readonly #listed = new Map<string, string>()
  readonly #models = new Map<string, LanguageModelV4>()
  readonly #keys: readonly string[]

  constructor(settings: ModelSettings) {
    this.settings = settings
    this.#keys = [settings.openaiApiKey, settings.anthropicApiKey].filter((key) => key !== undefined)
  }

  /** Takes the keys out of an error of a model, which then may be shown. Returns it. */
  conceal(error: unknown): unknown {
    return concealSecrets(error, this.#keys)
  }

  /**
   * `fetch` makes its connections: they are the job's. Settles once the name of the model is known.
   * @throws {TaskFailure} `TETHER_MODEL_UNAVAILABLE`, `TETHER_MODEL_UNAUTHORIZED`, `TETHER_MODEL_FAILED`
   */
  async open(asked: string | undefined, fetch: typeof globalThis.fetch): Promise<LanguageModelV4> {
    const choice = chooseModel(this.settings, asked)
    if (choice.provider === 'scripted') {
      const { ScriptedModel } = await import('./ScriptedModel.ts')
      return new ScriptedModel()
    }
    const direct = withoutRedirects(fetch)
    const name = choice.name ?? (await this.#firstListed(choice.provider, direct))
    const shared = await this.#sharedModel({ provider: choice.provider, name })
    return new ConnectedModel(shared, direct)
  }

  async #sharedModel(named: Named): Promise<LanguageModelV4> {
    const key = `${named.provider}:${named.name}`
    const known = this.#models.get(key)
    if (known !== undefined) return known
    const model = await this.#newModel(
      named,
      modelFetch(fetchOfCaller, (text) => String(this.conceal(text))),
    )
    // Clients may ask for any name.
    if (this.#models.size >= MAX_KEPT_MODELS) this.#models.clear()
    this.#models.set(key, model)
    return model
  }

  async #newModel({ provider, name }: Named, fetch: typeof globalThis.fetch): Promise<LanguageModelV4> {
    const { openaiApiKey: apiKey, anthropicApiKey } = this.settings
    if (provider === 'openai') {
      const { createOpenAICompatible } = await import('@ai-sdk/openai-compatible')
      const key = apiKey === undefined ? {} : { apiKey }
      const baseURL = this.#baseUrlOf('openai')
      return createOpenAICompatible({ name: 'openai', baseURL, fetch, includeUsage: true, ...key }).languageModel(name)
    }
    const { createAnthropic } = await import('@ai-sdk/anthropic')
    const key = anthropicApiKey === undefined ? {} : { apiKey: anthropicApiKey }
    return createAnthropic({ baseURL: this.#baseUrlOf('anthropic'), fetch, ...key }).languageModel(name)
  }

  #baseUrlOf(provider: 'openai' | 'anthropic'): string {
    const { openaiBaseUrl, anthropicBaseUrl } = this.settings
    return provider === 'openai' ? (openaiBaseUrl ?? OPENAI_BASE_URL) : (anthropicBaseUrl ?? ANTHROPIC_BASE_URL)
  }

  async #firstListed(provider: 'openai' | 'anthropic', fetch: typeof globalThis.fetch): Promise<string> {
    const known = this.#listed.get(provider)
    if (known !== undefined) return known
    const url = `${this.#baseUrlOf(provider)}/models`
    const name = firstIn(await this.#askList(url, provider, fetch))
    if (name === undefined) throw new TaskFailure('TETHER_MODEL_FAILED', noneListed(url, 'listed none'))
    if (!MODEL_NAME.test(name)) throw new TaskFailure('TETHER_MODEL_FAILED', badlyNamed(url, name))
    this.#listed.set(provider, name)
    return name
  }

  async #askList(url: string, provider: 'openai' | 'anthropic', fetch: typeof globalThis.fetch): Promise<string> {
    const { openaiApiKey, anthropicApiKey } = this.settings
    const headers: Record<string, string> =
      provider === 'anthropic'
        ? { 'x-api-key': anthropicApiKey ?? '', 'anthropic-version': ANTHROPIC_VERSION }
        : openaiApiKey === undefined
          ? {}
          : { authorization: `Bearer ${openaiApiKey}` }
    try {
      const response = await fetch(url, { headers })
      const text = await textOf(response)
      if (response.ok) return text
      throw failedList(url, response)
    } catch (error) {
      if (error instanceof TaskFailure) throw error
      const reason = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error)
      throw new ListFailure('TETHER_MODEL_FAILED', `no model server answered at ${url}: ${reason}`, {
        url,
        retryable: true,
        cause: error,
      })
    }
  }
}

/** Has the fields by which the call of a model that failed is known, so that this one is made again like those. */
class ListFailure extends TaskFailure {
  readonly url: string
  readonly isRetryable: boolean
  readonly statusCode: number | undefined
  readonly responseHeaders: Readonly<Record<string, string>>

  constructor(
    code: string,
    message: string,
    call: { url: string; retryable: boolean; response?: Response; cause?: unknown },
  ) {
    super(code, message, call)
    this.url = call.url
    this.isRetryable = call.retryable
    this.statusCode = call.response?.status
    this.responseHeaders = Object.fromEntries(call.response?.headers ?? [])
  }
}

function failedList(url: string, response: Response): ListFailure {
  const { status } = response
  if (status === 401 || status === 403) {
    const message = `the model server at ${url} refused the key (${status})`
    return new ListFailure('TETHER_MODEL_UNAUTHORIZED', message, { url, response, retryable: false })
  }
  const retryable = isTemporaryStatus(status)
  return new ListFailure('TETHER_MODEL_FAILED', noneListed(url, `answered ${status}`), { url, response, retryable })
}

function noneListed(url: string, instead: string): string {
  return `the model server must list a model at ${url} where MODEL names none, and ${instead}`
}

function badlyNamed(url: string, name: string): string {
  return `the first model listed at ${url} must have an id of 1 to 200 visible ASCII characters, got ${JSON.stringify(name.slice(0, 200))}`
}

async function textOf(response: Response): Promise<string> {
  let text = ''
  const decoder = new TextDecoder()
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true })
    if (text.length > MAX_LIST_BYTES) break
  }
  return text
}

/** Of a list as both kinds of server give it: `{ data: [{ id }] }`. */
function firstIn(text: string): string | undefined {
  try {
    const list: unknown = JSON.parse(text)
    if (typeof list !== 'object' || list === null || !('data' in list) || !Array.isArray(list.data)) return undefined
    const [first]: unknown[] = list.data
    if (typeof first !== 'object' || first === null || !('id' in first) || typeof first.id !== 'string')
      return undefined
    return first.id
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
