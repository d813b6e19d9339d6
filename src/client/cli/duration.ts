const SECOND_MS = 1000
const MINUTE_MS = 60 * SECOND_MS
const HOUR_MS = 60 * MINUTE_MS

/** Such as `3 ms`, `1.2 s`, `2 min 5 s`, `1 h 20 min`. */
export function durationText(ms: number): string {
  const wholeMs = Math.max(0, Math.round(ms))
  if (wholeMs < SECOND_MS) return `${wholeMs} ms`
  if (wholeMs < MINUTE_MS) return `${(Math.floor(wholeMs / 100) / 10).toFixed(1)} s`
  const seconds = Math.floor(wholeMs / SECOND_MS)
  if (wholeMs < HOUR_MS) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  const minutes = Math.floor(wholeMs / MINUTE_MS)
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
