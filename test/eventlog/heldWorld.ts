import type { StoreChange } from '../../src/store/JobStore.ts'
import type { Tether } from '../../src/tether.ts'
import { HeldStore, openWorld, type WorldOptions } from '../world.ts'

/** A server whose commits can be held back, seen and made to fail. */
export async function openHeldWorld(
  options: Omit<WorldOptions, 'wrapStore'> = {},
): Promise<{ readonly tether: Tether; readonly store: HeldStore }> {
  const made: HeldStore[] = []
  const tether = await openWorld({
    ...options,
    wrapStore: (inner) => {
      const held = new HeldStore(inner)
      made.push(held)
      return held
    },
  })
  const [store] = made
  if (store === undefined) throw new Error('the world must wrap its store, and did not')
  return { tether, store }
}

export function isMoveTo(...statuses: readonly string[]): (changes: readonly StoreChange[]) => boolean {
  return (changes) => changes.some((change) => change.kind === 'move' && statuses.includes(change.state.status))
}

export function isCreate(changes: readonly StoreChange[]): boolean {
  return changes.some((change) => change.kind === 'create')
}
