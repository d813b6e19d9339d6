import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { temporaryFolder } from '../world.ts'

/** A disk of its own that can be filled and emptied. */
export interface SmallDisk {
  readonly folder: string
  /** Leaves about `freeBytes`. */
  fill(freeBytes?: number): void
  empty(): void
}

/** A file system of `mib` MiB in memory, which goes with the test; undefined where only root may make one and this is not root. */
export async function openSmallDisk(mib: number): Promise<SmallDisk | undefined> {
  const mountPoint = await temporaryFolder()
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', mountPoint], { stdio: 'pipe' })
  } catch {
    return undefined
  }
  onTestFinished(() => void execFileSync('umount', ['--lazy', mountPoint]))
  const folder = join(mountPoint, 'data')
  mkdirSync(folder)
  const ballast = join(mountPoint, 'ballast')
  return {
    folder,
    fill(freeBytes = 0) {
      const { bavail, bsize } = statfsSync(mountPoint)
      writeFileSync(ballast, Buffer.alloc(Math.max(0, bavail * bsize - freeBytes)))
    },
    empty: () => rmSync(ballast, { force: true }),
  }
}
