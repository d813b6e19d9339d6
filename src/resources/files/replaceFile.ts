import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open, rename, unlink } from 'node:fs/promises'
import type { Folder } from './Folder.ts'
import { unless } from './systemError.ts'
import { ToolError } from './ToolError.ts'

/** No longer than any name may be, whatever the file is called. */
const DRAFT_NAME = /^\.tether-[\da-f-]{36}\.draft$/

const DRAFT_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | (constants.O_NOFOLLOW ?? 0)

/** How much is written between two looks at the signal. */
const PIECE_BYTES = 1024 * 1024

/** Whether an entry is a file that is not yet in its place, or was left so by a server that was killed. */
export function isDraft(name: string): boolean {
  return DRAFT_NAME.test(name)
}

/**
 * Puts a file with `data` in the place of `name`, whatever is there. It is written beside it, brought to the disk and renamed:
 * whenever the process or the machine dies, `name` is the old or the new file. Where `signal` is aborted before that, nothing
 * has changed. A hard link to the old file keeps the old content.
 *
 * `mode`: its permissions; default as for any new file. `check` runs last before the rename; what it throws ends it.
 */
export async function replaceFile(
  { folder, name }: { readonly folder: Folder; readonly name: string },
  data: Buffer,
  options: { readonly mode?: number; readonly check?: () => Promise<void>; readonly signal: AbortSignal },
): Promise<void> {
  const { mode, check, signal } = options
  const draft = folder.entry(`.tether-${randomUUID()}.draft`)
  const handle = await open(draft, DRAFT_FLAGS)
  try {
    try {
      await writeAll(handle, data, signal)
      // The process's mask applies to what is made, not to what is set.
      if (mode !== undefined) await handle.chmod(mode & 0o777)
      await handle.sync()
    } finally {
      await handle.close()
    }
    if (!(await folder.isInside())) throw new ToolError('the folder was moved out of the workspace meanwhile')
    await check?.()
    signal.throwIfAborted()
    await rename(draft, folder.entry(name))
  } catch (error) {
    await unless(['ENOENT'], unlink(draft))
    throw error
  }
}

async function writeAll(handle: FileHandle, data: Buffer, signal: AbortSignal): Promise<void> {
  let written = 0
  while (written < data.length) {
    signal.throwIfAborted()
    const { bytesWritten } = await handle.write(data, written, Math.min(PIECE_BYTES, data.length - written))
    written += bytesWritten
  }
}
