/** A browser has six connections for all its pages of one server: Cancel, which must always find one that is free, has the last. */
export const MAX_HELD = 3
/** One for each kind of stream that is looked at, which is taken over by the page that is looked at last. */
const OWN = { feed: 0, job: 1 } as const
/** Those that held jobs leave are for more pages, which may be side by side. */
const SHARED = [2, 3, 4] as const

const HELD = 'tether.held.'
const PLACE = 'tether.place.'

export type Watched = keyof typeof OWN

/** The right to have one stream open. */
export interface Place {
  /** Fires when another page of this browser has taken it over. */
  readonly lost: AbortSignal
  readonly leave: () => void
}

/** Lets the other tabs of this browser know that this one holds the job, until the signal fires or the tab is closed. */
export function tellTabs(id: string, until: AbortSignal): void {
  const { promise, resolve } = Promise.withResolvers<void>()
  until.addEventListener('abort', () => resolve())
  const locks = locksOf(navigator)
  // A reload may begin before the lock of the page that it replaces is gone.
  locks?.request(`${HELD}${id}`, { mode: 'shared' }, () => promise).catch(() => undefined)
  if (locks !== undefined) void clearTaken(locks)
}

/** How many jobs the tabs of this browser hold; 0 where a browser does not tell, as over plain HTTP from elsewhere. */
export async function heldInTabs(): Promise<number> {
  const { held = [] } = (await locksOf(navigator)?.query()) ?? {}
  return new Set(held.map(({ name }) => name).filter((name) => name?.startsWith(HELD))).size
}

/** A place that is free, and else that of a page that is looked at no more; undefined where one may not take that. */
export async function takePlace(watched: Watched, mayTakeOver: boolean): Promise<Place | undefined> {
  const locks = locksOf(navigator)
  if (locks === undefined) return { lost: new AbortController().signal, leave: () => undefined }
  const own = `${PLACE}${OWN[watched]}`
  const shared = SHARED.slice(0, sharedLeftBy(await heldInTabs()))
  for (const name of [own, ...shared.map((at) => `${PLACE}${at}`)]) {
    const place = await lock(locks, name, { ifAvailable: true })
    if (place !== undefined) return place
  }
  return mayTakeOver ? lock(locks, own, { steal: true }) : undefined
}

/** Settles when the page that has the place of this kind gave it up, or the signal fires. */
export async function untilPlace(watched: Watched, signal: AbortSignal): Promise<void> {
  const name = `${PLACE}${OWN[watched]}`
  await locksOf(navigator)
    ?.request(name, { signal }, () => undefined)
    .catch(() => undefined)
}

/** How many of the shared places so many held jobs leave to pages. */
function sharedLeftBy(heldCount: number): number {
  return Math.max(0, SHARED.length - heldCount)
}

/** What jobs are held on now is no place of a page any more. */
async function clearTaken(locks: LockManager): Promise<void> {
  for (const at of SHARED.slice(sharedLeftBy(await heldInTabs()))) {
    await locks.request(`${PLACE}${at}`, { steal: true }, () => undefined).catch(() => undefined)
  }
}

function lock(locks: LockManager, name: string, options: LockOptions): Promise<Place | undefined> {
  const taken = Promise.withResolvers<Place | undefined>()
  const left = Promise.withResolvers<void>()
  const lost = new AbortController()
  locks
    .request(name, options, (held) => {
      if (held === null) return taken.resolve(undefined)
      taken.resolve({ lost: lost.signal, leave: left.resolve })
      return left.promise
    })
    .catch((error: unknown) => {
      lost.abort()
      // Taken over between the request and the grant.
      taken.resolve(undefined)
      if (!(error instanceof DOMException)) throw error
    })
  return taken.promise
}

/** Browsers have them only for pages that came over TLS or from this machine, whatever their types say. */
function locksOf(browser: { readonly locks?: LockManager }): LockManager | undefined {
  return browser.locks
}
