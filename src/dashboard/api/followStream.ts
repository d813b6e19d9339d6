import { Backoff } from '../../client/Backoff.ts'
import { type Decoded, decodeEvents } from '../../client/decodeEvents.ts'
import { ConnectionLost, isTemporary, TetherApiError } from '../../client/error.ts'
import { SseParser } from '../../client/SseParser.ts'
import { takePlace, untilPlace, type Watched } from './tabs.ts'
import { comeBack, untilFocused, untilHidden, untilVisible } from './visibility.ts'

export interface StreamFollower {
  /** Asks for the stream, each time from where it stands. */
  readonly ask: (signal: AbortSignal) => Promise<Response>
  /** An answer has come. */
  readonly onOpen?: (response: Response) => void
  /** Says whether that was the end of it. */
  readonly onEvents: (events: Decoded['events']) => boolean
  /** The connection is gone and is about to be made again. */
  readonly onLost?: () => void
  /** The page does without the connection until it is looked at again: others have what the browser has of them. */
  readonly onPaused?: () => void
  /** What is watched; the connection is given up while nobody looks at it. Undefined: it is not there to be looked at. */
  readonly watched?: Watched
  readonly signal: AbortSignal
}

/** Eight heartbeats of the server's default. What finds a server that vanished is the system; this is for one that hangs. */
const MAX_SILENCE_MS = 120_000
/** For so long a page that is full of events lets nothing else come in between. */
const BUSY_MS = 12

/**
 * Reads a stream of events to its end, on as many connections as it takes. Settles after the last event, or where the reader has
 * all of it (204), or when the signal fires. Rejects with the refusal that no further try can change.
 */
export async function followStream(follower: StreamFollower): Promise<void> {
  const { signal, watched, onLost } = follower
  const backoff = new Backoff()
  // Whoever comes to a page looks at it.
  let isLookedAt = true
  while (!signal.aborted) {
    if (watched !== undefined && (await untilVisible(signal))) isLookedAt = true
    if (signal.aborted) return
    const place = watched === undefined ? undefined : await takePlace(watched, isLookedAt)
    if (watched !== undefined && place === undefined) {
      follower.onPaused?.()
      isLookedAt = await untilLookedAt(watched, signal)
      continue
    }
    const connection = new AbortController()
    const open = AbortSignal.any([signal, connection.signal])
    const life = place === undefined ? open : AbortSignal.any([open, untilHidden(open), place.lost])
    try {
      if (await readOnce(follower, connection, life, backoff)) return
    } catch (error) {
      if (signal.aborted) return
      if (!life.aborted && !isTemporary(error)) throw error
      if (error instanceof TetherApiError) await pauseFor(error.retryAfterSeconds ?? 0, signal)
    } finally {
      connection.abort()
      place?.leave()
    }
    if (place?.lost.aborted === true) {
      isLookedAt = false
      continue
    }
    onLost?.()
    if (!signal.aborted) await comeBack(backoff.nextMs(), signal)
  }
}

/** Settles when there may be a place again; says whether that is because somebody came to the page. */
async function untilLookedAt(watched: Watched, signal: AbortSignal): Promise<boolean> {
  const over = new AbortController()
  const life = AbortSignal.any([signal, over.signal])
  const isFocused = await Promise.race([
    untilFocused(life).then(() => true),
    untilPlace(watched, life).then(() => false),
  ])
  over.abort()
  return isFocused
}

/** Whether it has ended. */
async function readOnce(
  { ask, onOpen, onEvents }: StreamFollower,
  connection: AbortController,
  life: AbortSignal,
  backoff: Backoff,
): Promise<boolean> {
  const response = await ask(life)
  onOpen?.(response)
  if (response.status === 204 || response.body === null) return true
  const reader = response.body.getReader()
  const parser = new SseParser()
  const silence = new Silence(() => connection.abort(new ConnectionLost('the server has fallen silent')))
  try {
    for (let busySinceMs = performance.now(); ; ) {
      silence.restart()
      const { done, value } = await reader.read()
      if (done) return false
      const { events, defect } = decodeEvents(parser, value)
      if (events.length > 0) {
        backoff.reset()
        if (onEvents(events)) return true
      }
      if (defect !== undefined) throw new ConnectionLost(`what came is no event: ${defect.message}`)
      if (performance.now() - busySinceMs < BUSY_MS) continue
      await nextTask()
      busySinceMs = performance.now()
    }
  } catch (error) {
    // What a browser says of a connection that broke.
    throw error instanceof TypeError ? new ConnectionLost('the connection broke', { cause: error }) : error
  } finally {
    silence.end()
    // Settled or not: the connection goes with `connection`.
    reader.cancel().catch(() => undefined)
  }
}

class Silence {
  readonly #onSilent: () => void
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(onSilent: () => void) {
    this.#onSilent = onSilent
  }

  restart(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(this.#onSilent, MAX_SILENCE_MS)
  }

  end(): void {
    clearTimeout(this.#timer)
  }
}

/** Lets the page draw and hear of keys. A timer would do, were it not for the 4 ms that browsers add to those that follow each other. */
function nextTask(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const { port1, port2 } = new MessageChannel()
  const settle = (): void => {
    port1.close()
    resolve()
  }
  port1.addEventListener('message', settle)
  port1.start()
  port2.postMessage(undefined)
  return promise
}

async function pauseFor(seconds: number, signal: AbortSignal): Promise<void> {
  if (seconds > 0) await comeBack(seconds * 1000, signal)
}
