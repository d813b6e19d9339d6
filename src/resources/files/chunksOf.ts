import type { ReadableFile } from './openFile.ts'

const CHUNK_BYTES = 64 * 1024

/** Files of /proc say that they have no bytes, whatever they have. */
const MIN_CHUNK_BYTES = 4096

/**
 * A file's bytes from its beginning, up to as many as it had when it was opened: one that is being appended to has an end too.
 * Every chunk is in the same memory as the one before. @throws what `signal` was aborted with
 */
export async function* chunksOf({ handle, info }: ReadableFile, signal: AbortSignal): AsyncGenerator<Buffer> {
  const room = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, Math.max(MIN_CHUNK_BYTES, info.size)))
  const wantedBytes = info.size === 0 ? Infinity : info.size
  let bytes = 0
  while (bytes < wantedBytes) {
    signal.throwIfAborted()
    const { bytesRead } = await handle.read(room, 0, Math.min(room.length, wantedBytes - bytes), null)
    if (bytesRead === 0) break
    bytes += bytesRead
    yield room.subarray(0, bytesRead)
  }
}
