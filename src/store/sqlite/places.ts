/** Where one batch of events stands: the row of the log that holds it, and the number of its first event. */
export interface Place {
  readonly row: number
  readonly firstSeq: number
}

const OFFSET_BYTES = 8

/**
 * The places of batches that follow each other, as a chapter keeps them: for each, two 32-bit numbers, little-endian, how far
 * it is from the first. A chapter never spans 2³² rows, because a tail that grows old is written out (LogTable.ts).
 */
export function encodePlaces(places: readonly Place[]): Uint8Array {
  const offsets = new Uint8Array(places.length * OFFSET_BYTES)
  const view = new DataView(offsets.buffer)
  const first = places[0]
  for (const [index, place] of places.entries()) {
    if (first === undefined) break
    view.setUint32(index * OFFSET_BYTES, place.row - first.row, true)
    view.setUint32(index * OFFSET_BYTES + 4, place.firstSeq - first.firstSeq, true)
  }
  return offsets
}

export function decodePlaces(first: Place, offsets: Uint8Array): readonly Place[] {
  const view = new DataView(offsets.buffer, offsets.byteOffset, offsets.byteLength)
  return Array.from({ length: Math.floor(offsets.byteLength / OFFSET_BYTES) }, (_, index) => ({
    row: first.row + view.getUint32(index * OFFSET_BYTES, true),
    firstSeq: first.firstSeq + view.getUint32(index * OFFSET_BYTES + 4, true),
  }))
}

/**
 * Those of `places` whose batch has something at or after `seq`. A batch reaches to where the next one begins, and the last,
 * as the caller knows, at least to `seq`.
 */
export function placesFrom(places: readonly Place[], seq: number): readonly Place[] {
  const later = places.findIndex((place) => place.firstSeq > seq)
  if (later === -1) return places.slice(-1)
  return places.slice(Math.max(later - 1, 0))
}
