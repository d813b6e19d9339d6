import fc from 'fast-check'
import { expect, test } from 'vitest'
import { TetherError } from '../../src/job/error.ts'
import { mintJobId, parseGroupId, parseJobId } from '../../src/job/id.ts'
import { keyOf } from '../../src/job/key.ts'

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-'
const id = fc.string({ unit: fc.constantFrom(...ALPHABET.split('')), minLength: 8, maxLength: 64 })

function refusalOf(parse: () => unknown): TetherError {
  try {
    parse()
  } catch (error) {
    if (error instanceof TetherError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

test('minted ids sort by the time of their making, also within one millisecond', () => {
  const ids = Array.from({ length: 5000 }, mintJobId)
  expect(ids.toSorted()).toEqual(ids)
  expect(new Set(ids).size).toBe(ids.length)
})

test('a minted id is one that a client may send back', () => {
  const minted = mintJobId()
  expect(minted).toMatch(/^job_[0-9a-f]{32}$/)
  expect(parseJobId(minted)).toBe(minted)
})

test('8 to 64 characters of the alphabet are an id, unchanged', () => {
  fc.assert(
    fc.property(id, (text) => {
      expect(parseJobId(text)).toBe(text)
      expect(parseGroupId(text)).toBe(text)
    }),
  )
})

test.each([
  '',
  'a'.repeat(7),
  'a'.repeat(65),
  'with space',
  ' leading1',
  'trailing1 ',
  'newline12\n',
  '\nnewline1',
  'dots.are.out',
  'slash/slash',
  '../../etc/passwd',
  'colon:colon',
  'percent%20',
  'ünïcödé-id',
  'Ａａ０１２３４５６',
  'null\u0000null',
])('%j is no id', (text) => {
  for (const [noun, parse] of [
    ['job', parseJobId],
    ['group', parseGroupId],
  ] as const) {
    const error = refusalOf(() => parse(text))
    expect(error.code).toBe('TETHER_INVALID_JOB_ID')
    expect(error.statusCode).toBe(400)
    expect(error.message).toBe(
      `a ${noun} id must be 8 to 64 characters of A-Z a-z 0-9 _ -, got ${JSON.stringify(text)}`,
    )
  }
})

test('any other text is refused with a message of bounded length', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      fc.pre(!/^[\w-]{8,64}$/.test(text) || text.endsWith('\n'))
      expect(refusalOf(() => parseJobId(text)).message.length).toBeLessThan(650)
    }),
  )
})

test('jobs of different tenants never share a key, whatever their ids', () => {
  const tenant = fc.oneof(fc.constant('default'), fc.stringMatching(/^[a-z]{1,3}$/))
  fc.assert(
    fc.property(tenant, id, tenant, id, (tenantA, idA, tenantB, idB) => {
      const a = keyOf({ tenant: tenantA, id: parseJobId(idA) })
      const b = keyOf({ tenant: tenantB, id: parseJobId(idB) })
      expect(a === b).toBe(tenantA === tenantB && idA === idB)
    }),
  )
})
