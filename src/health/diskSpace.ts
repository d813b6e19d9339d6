import { statfs } from 'node:fs/promises'
import type { Finding } from './Check.ts'

/** Below this a few logs fill the disk, and then nothing can be written, not even how jobs ended. */
const MIN_FREE_BYTES = 64 * 1024 * 1024
/** Of a small disk less is enough. */
const MIN_FREE_SHARE = 0.05

export interface DiskSpace {
  readonly freeBytes: number
  readonly totalBytes: number
}

/** What this process may still write there; the rest may be kept for root. */
export async function diskSpaceOf(path: string): Promise<DiskSpace> {
  const { bavail, bsize, blocks } = await statfs(path)
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
}

export function diskFinding({ freeBytes, totalBytes }: DiskSpace): Finding {
  const neededBytes = Math.floor(Math.min(MIN_FREE_BYTES, totalBytes * MIN_FREE_SHARE))
  const figures = { freeBytes, totalBytes, neededBytes }
  if (freeBytes >= neededBytes) return { ok: true, figures }
  return { ok: false, detail: `${freeBytes} bytes are free, ${neededBytes} are needed`, figures }
}
