import type { ModelSettings } from '../../config.ts'
import { TaskFailure } from '../../job/failure.ts'

/** Which model, where. `name` undefined: the first that the server lists. */
export type ModelChoice =
  | { readonly provider: 'scripted' }
  | { readonly provider: 'openai' | 'anthropic'; readonly name: string | undefined }

const PREFIXED = /^(openai|anthropic):(.+)$/s

/**
 * `openai:NAME`, `anthropic:NAME` and `scripted` say it themselves. A bare name goes to OpenAI's shape where its URL or key is
 * set, else to Anthropic. Without a name it is the first model that the server lists whose URL or key is set, and `scripted`
 * where none is.
 * @throws {TaskFailure} `TETHER_MODEL_UNAVAILABLE` where the settings have no way to that model
 */
export function chooseModel(settings: ModelSettings, asked: string | undefined = settings.model): ModelChoice {
  const { openaiBaseUrl, openaiApiKey, anthropicApiKey } = settings
  const hasOpenai = openaiBaseUrl !== undefined || openaiApiKey !== undefined
  if (asked === undefined) {
    if (hasOpenai) return { provider: 'openai', name: undefined }
    return anthropicApiKey === undefined ? { provider: 'scripted' } : { provider: 'anthropic', name: undefined }
  }
  if (asked === 'scripted') return { provider: 'scripted' }
  const [, prefix, rest] = PREFIXED.exec(asked) ?? []
  const provider = prefix === 'openai' || prefix === 'anthropic' ? prefix : hasOpenai ? 'openai' : 'anthropic'
  if (provider === 'openai' && !hasOpenai) {
    throw unavailable(asked, 'OPENAI_BASE_URL or OPENAI_API_KEY')
  }
  if (provider === 'anthropic' && anthropicApiKey === undefined) throw unavailable(asked, 'ANTHROPIC_API_KEY')
  return { provider, name: rest ?? asked }
}

function unavailable(asked: string, keys: string): TaskFailure {
  return new TaskFailure(
    'TETHER_MODEL_UNAVAILABLE',
    `the model ${JSON.stringify(asked.slice(0, 200))} needs ${keys} to be set at the server`,
  )
}
