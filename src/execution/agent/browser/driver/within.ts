/** What `promise` comes to; undefined where it takes longer than `ms`, or is rejected, which then is nobody's business. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => late.resolve(undefined), ms)
  try {
    return await Promise.race([promise.catch(() => undefined), late.promise])
  } finally {
    clearTimeout(timer)
  }
}
