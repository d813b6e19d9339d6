import type { Socket } from 'node:net'

/**
 * How many bytes of this socket the kernel has taken so far. One write may hold a megabyte, and Node's public counters move only
 * when the whole of it is gone, so a reader at 10 KB/s would look stalled; what is left of the write under way stands in the
 * handle, where Node's own socket timeouts read it too. Without that field, whole writes are counted.
 */
export function bytesTakenOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle')
  if (hasWriteQueue(handle)) return handle.bytesWritten - handle.writeQueueSize
  return socket.bytesWritten - socket.writableLength
}

function hasWriteQueue(handle: unknown): handle is { readonly bytesWritten: number; readonly writeQueueSize: number } {
  return (
    typeof handle === 'object' &&
    handle !== null &&
    'bytesWritten' in handle &&
    typeof handle.bytesWritten === 'number' &&
    'writeQueueSize' in handle &&
    typeof handle.writeQueueSize === 'number'
  )
}
