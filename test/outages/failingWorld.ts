import { type JobStore, StoreError } from '../../src/store/JobStore.ts'
import type { Tether } from '../../src/tether.ts'
import { openHeldWorld } from '../eventlog/heldWorld.ts'
import { eventually, type HeldStore, taskOf, type WorldOptions } from '../world.ts'

export const silent = taskOf('silent', async (ctx) => ctx.sleep(60_000))
export const quick = taskOf('quick', async (_ctx, input) => input)

export interface FailingWorld {
  readonly tether: Tether
  readonly store: HeldStore
  /** While it is failing the store takes nothing. */
  readonly outage: { isFailing: boolean }
  /** Ends the outage and waits until the server knows. */
  readonly recover: () => Promise<void>
}

/** A server, with the tasks `silent` and `quick` besides those given, whose store fails when it is told to and which gives up soon. */
export async function openFailingWorld(options: Omit<WorldOptions, 'wrapStore'> = {}): Promise<FailingWorld> {
  const tasks = [...(options.tasks ?? []), silent, quick]
  const { tether, store } = await openHeldWorld({ storePatienceMs: 300, ...options, tasks })
  const outage = { isFailing: false }
  store.holdCommits(async () => {
    if (outage.isFailing) throw new StoreError('the disk is full, says the test')
  })
  const check: JobStore['check'] = store.check
  store.check = () => (outage.isFailing ? Promise.reject(new StoreError('still full')) : check())
  const recover = async (): Promise<void> => {
    outage.isFailing = false
    await eventually('it is ready again', async () => (await tether.health.ready()).isReady)
  }
  return { tether, store, outage, recover }
}
