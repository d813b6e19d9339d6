import fc from 'fast-check'
import { expect, test } from 'vitest'
import { splitBatch } from '../../src/store/splitBatch.ts'

test('a batch that is split has the same lines under the same numbers, none longer than it must be', () => {
  const lines = fc.array(
    fc.string({ maxLength: 40 }).map((text) => text.replaceAll('\n', ' ')),
    { minLength: 1, maxLength: 30 },
  )
  fc.assert(
    fc.property(
      lines,
      fc.integer({ min: 1, max: 120 }),
      fc.integer({ min: 1, max: 1000 }),
      (all, maxUnits, firstSeq) => {
        const parts = splitBatch({ firstSeq, lastSeq: firstSeq + all.length - 1, lines: all.join('\n') }, maxUnits)
        expect(parts.flatMap((part) => part.lines.split('\n'))).toEqual(all)
        let seq = firstSeq
        for (const part of parts) {
          expect(part.firstSeq).toBe(seq)
          expect(part.lastSeq - part.firstSeq + 1).toBe(part.lines.split('\n').length)
          if (part.lastSeq > part.firstSeq) expect(part.lines.length).toBeLessThanOrEqual(maxUnits)
          seq = part.lastSeq + 1
        }
        // No two that follow each other would have fitted into one.
        for (const [index, part] of parts.slice(1).entries()) {
          expect((parts[index]?.lines.length ?? 0) + 1 + (part.lines.split('\n')[0]?.length ?? 0)).toBeGreaterThan(
            maxUnits,
          )
        }
      },
    ),
  )
})
