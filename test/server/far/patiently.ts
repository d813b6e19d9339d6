/** Some clients are found only after a dozen seconds, and the machine may be busy; a test that fails says what it waited for. */
const DEADLINE_MS = 60_000
const POLL_MS = 20

/** Polls until `look` gives something. */
export async function patiently<T>(what: () => string, look: () => T | undefined | false): Promise<T> {
  const deadlineMs = performance.now() + DEADLINE_MS
  for (;;) {
    const found = look()
    if (found !== undefined && found !== false) return found
    if (performance.now() > deadlineMs) throw new Error(`not within ${DEADLINE_MS} ms: ${what()}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
