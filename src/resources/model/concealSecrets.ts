/** What is shorter is none: servers that want no key are given `none`, `ollama` and the like, which stand in many a text. */
const MIN_SECRET_LENGTH = 8

/** An error has a few layers; what lies deeper is shown to nobody. */
const MAX_DEPTH = 6

/**
 * Takes secrets out of an error, or of what a server sent as one: some echo the key in it. In place, so that it stays the error that
 * it is; a text comes back as another one.
 */
export function concealSecrets(value: unknown, secrets: readonly string[]): unknown {
  const forms = secrets.filter(({ length }) => length >= MIN_SECRET_LENGTH).flatMap(formsOf)
  return forms.length === 0 ? value : conceal(value, forms, 0)
}

/** As it is, and as it may stand in JSON that nobody has parsed. */
function formsOf(secret: string): readonly string[] {
  const inJson = JSON.stringify(secret).slice(1, -1)
  return [...new Set([secret, inJson, inJson.replaceAll('/', '\\/')])]
}

function conceal(value: unknown, forms: readonly string[], depth: number): unknown {
  if (typeof value === 'string') return forms.reduce((text, form) => text.replaceAll(form, '[redacted]'), value)
  if (typeof value !== 'object' || value === null || depth >= MAX_DEPTH) return value
  // An error's message and stack are its own properties, which are not enumerated.
  for (const name of Object.getOwnPropertyNames(value)) {
    const held: unknown = Reflect.get(value, name)
    const shown = conceal(held, forms, depth + 1)
    if (shown !== held) Reflect.set(value, name, shown)
  }
  return value
}
