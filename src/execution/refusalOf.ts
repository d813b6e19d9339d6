import { setImmediate as nextTurn } from 'node:timers/promises'
import type { JobScope } from '../cancellation/JobScope.ts'

/**
 * The boundary of something that is awaited: what it rejects with, in place of being done; undefined where the job goes on. It
 * rejects in a turn of its own: a loop that swallows it and tries again would otherwise never let go of the process, and no other
 * job could be ended, nor this one abandoned.
 */
export function refusalOf(scope: JobScope): Promise<never> | undefined {
  try {
    scope.checkpoint()
    return undefined
  } catch (error) {
    return nextTurn().then(() => {
      throw error
    })
  }
}
