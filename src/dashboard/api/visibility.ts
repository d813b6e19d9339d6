/** A page that is looked at again this soon has lost nothing. */
const HIDDEN_MS = 5000

/** Settles when the page is looked at, or the signal fires; says whether it was hidden until then. */
export async function untilVisible(signal: AbortSignal): Promise<boolean> {
  const wasHidden = document.hidden
  while (document.hidden && !signal.aborted) await oneOf([[document, 'visibilitychange']], undefined, signal)
  return wasHidden
}

/** Fires when nobody has looked at the page for a while. `end` is where nobody asks any more. */
export function untilHidden(end: AbortSignal): AbortSignal {
  const hidden = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  const look = (): void => {
    clearTimeout(timer)
    if (document.hidden) timer = setTimeout(() => hidden.abort(), HIDDEN_MS)
  }
  document.addEventListener('visibilitychange', look, { signal: AbortSignal.any([end, hidden.signal]) })
  look()
  return hidden.signal
}

/** Settles when somebody comes to the page, or the signal fires. */
export async function untilFocused(signal: AbortSignal): Promise<void> {
  await oneOf(
    [
      [window, 'focus'],
      [document, 'visibilitychange'],
    ],
    undefined,
    signal,
  )
}

/** Settles after `ms`, or sooner where the machine is on the network again or the page is looked at again. */
export async function comeBack(ms: number, signal: AbortSignal): Promise<void> {
  await oneOf(
    [
      [window, 'online'],
      [document, 'visibilitychange'],
    ],
    ms,
    signal,
  )
}

async function oneOf(
  events: readonly (readonly [EventTarget, string])[],
  ms: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const over = new AbortController()
  const settle = (): void => resolve()
  for (const [target, type] of events) target.addEventListener(type, settle, { signal: over.signal })
  signal.addEventListener('abort', settle, { signal: over.signal })
  const timer = ms === undefined ? undefined : setTimeout(settle, ms)
  await promise
  clearTimeout(timer)
  over.abort()
}
