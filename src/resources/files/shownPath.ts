/** A path in an answer of many lines: a name that holds a line break or other control characters could pass for an entry of its own. */
export function shownPath(path: string): string {
  return /[\p{Cc}\u2028\u2029]/u.test(path) ? JSON.stringify(path) : path
}

/** A path in a sentence, however long the model made it. */
export function quotedPath(path: string): string {
  return JSON.stringify(path.length > MAX_QUOTED ? `${path.slice(0, MAX_QUOTED).toWellFormed()}…` : path)
}

const MAX_QUOTED = 200
