/** Resolves after `ms`. Rejects with the signal's reason where that fires first, or had fired. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const end = (): void => reject(signal.reason)
  const timer = setTimeout(resolve, ms)
  signal.addEventListener('abort', end)
  try {
    await promise
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', end)
  }
}
