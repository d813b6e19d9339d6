/** An author who does not await it loses what it would have said; an unhandled rejection would be the server's to deal with. */
export function unowned<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined)
  return promise
}
