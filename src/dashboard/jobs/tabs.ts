const LOCK = 'tether.held.'

/** Lets the other tabs of this browser know that this one holds the job, until the signal fires or the tab is closed. */
export function tellTabs(id: string, until: AbortSignal): void {
  const { promise, resolve } = Promise.withResolvers<void>()
  until.addEventListener('abort', () => resolve())
  // A reload may begin before the lock of the page that it replaces is gone.
  locksOf(navigator)
    ?.request(`${LOCK}${id}`, { mode: 'shared' }, () => promise)
    .catch(() => undefined)
}

/** How many jobs the tabs of this browser hold; 0 where a browser does not tell, as over plain HTTP from elsewhere. */
export async function heldInTabs(): Promise<number> {
  const { held = [] } = (await locksOf(navigator)?.query()) ?? {}
  return new Set(held.map(({ name }) => name).filter((name) => name?.startsWith(LOCK))).size
}

/** Browsers have them only for pages that came over TLS or from this machine, whatever their types say. */
function locksOf(browser: { readonly locks?: LockManager }): LockManager | undefined {
  return browser.locks
}
