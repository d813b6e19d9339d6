import type { EventBatch } from './JobStore.ts'

/**
 * The batch as batches of whole lines, none longer than `maxUnits` (UTF-16 units) where its lines are not. A job that pours says
 * hundreds of KB in a commit, and who reads its log slowly would have all of that in memory at once.
 */
export function splitBatch(batch: EventBatch, maxUnits: number): readonly EventBatch[] {
  const { lines, lastSeq } = batch
  if (lines.length <= maxUnits) return [batch]
  const parts: EventBatch[] = []
  let firstSeq = batch.firstSeq
  for (let start = 0; firstSeq <= lastSeq; ) {
    let end = endOfLine(lines, start)
    let seq = firstSeq
    while (seq < lastSeq) {
      const next = endOfLine(lines, end + 1)
      if (next - start > maxUnits) break
      end = next
      seq += 1
    }
    parts.push({ firstSeq, lastSeq: seq, lines: lines.slice(start, end) })
    firstSeq = seq + 1
    start = end + 1
  }
  return parts
}

function endOfLine(lines: string, start: number): number {
  const newline = lines.indexOf('\n', start)
  return newline === -1 ? lines.length : newline
}
