import { once } from 'node:events'
import { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'

/** A pipe whose writers are all gone has its end in it; one that is silent for this long is held by somebody we do not see. */
const QUIET_MS = 50

/**
 * Lets what a dead tree left in the kernel's pipe come out, and closes the pipe. Settles when it is closed, or at once where
 * the reader has paused: what is left is then the reader's, who goes on in its own time or destroys it. A pipe that nobody
 * ever began to read is destroyed, and so is one that is read, silent and yet not at its end, for a process that left the
 * containment may hold it for ever.
 */
export async function letEnd(pipe: Readable, latestMs: number): Promise<void> {
  if (isUnread(pipe)) pipe.destroy()
  while (!pipe.closed && isHungry(pipe)) {
    const before = bytesRead(pipe)
    const leftMs = Math.min(QUIET_MS, latestMs - performance.now())
    if (leftMs > 0) await closedOrPaused(pipe, leftMs)
    if (!pipe.closed && isHungry(pipe) && (leftMs <= 0 || bytesRead(pipe) === before)) pipe.destroy()
  }
}

function isUnread(pipe: Readable): boolean {
  return pipe.readableFlowing === null && pipe.listenerCount('readable') === 0
}

/** Whether its reader would take more now: it flows, or somebody waits for `readable` (as `for await` does) with nothing there. */
function isHungry(pipe: Readable): boolean {
  return pipe.readableFlowing === true || (pipe.listenerCount('readable') > 0 && pipe.readableLength === 0)
}

function bytesRead(pipe: Readable): number {
  return pipe instanceof Socket ? pipe.bytesRead : 0
}

async function closedOrPaused(pipe: Readable, delayMs: number): Promise<void> {
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(), delayMs)
  try {
    await Promise.race([once(pipe, 'close', over), once(pipe, 'pause', over)])
  } catch {
    // The time is over, or the pipe broke, after which it closes: either way the caller looks at the pipe itself.
  } finally {
    clearTimeout(timer)
    over.abort()
  }
  // Timers come before pipes in a turn of the loop: after a long turn the silence may be ours, so let the pipes speak first.
  await nextTurn()
}
