import { describe, expect, test } from 'vitest'
import { Exposition } from './Exposition.ts'

const HISTOGRAM = `# HELP h What it is.
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="2"} 3
h_bucket{le="+Inf"} 3
h_sum 4.5
h_count 3
`
const COUNTER = `# HELP a_total What it is.
# TYPE a_total counter
a_total{x="1",y="\\"\\\\\\n"} 2
a_total{x="2",y=""} 1e3
`

test('a scrape is read', () => {
  const read = new Exposition(`${COUNTER}\n${HISTOGRAM}`)
  expect(read.value('a_total', { y: '"\\\n', x: '1' })).toBe(2)
  expect(read.sum('a_total')).toBe(1002)
  expect(read.value('h_count')).toBe(3)
})

describe('what is not well formed is refused:', () => {
  test.each([
    ['no newline at the end', COUNTER.trimEnd()],
    ['a sample of no family', 'a_total 1\n'],
    ['a sample under another family', `${COUNTER}b_total 1\n`],
    ['a family in two places', `${COUNTER}${HISTOGRAM}# TYPE a_total counter\na_total 1\n`],
    ['a family without help', COUNTER.replace(/# HELP.*\n/, '')],
    ['a counter by another name', COUNTER.replaceAll('a_total', 'a')],
    ['the same series twice', `${COUNTER}a_total{y="",x="2"} 1\n`],
    ['a label twice', COUNTER.replace('y=""', 'x=""')],
    ['an open quote', COUNTER.replace('y=""', 'y="')],
    ['a value that is none', COUNTER.replace('1e3', 'many')],
    ['a histogram without +Inf', HISTOGRAM.replace('h_bucket{le="+Inf"} 3\n', '')],
    ['buckets that do not add up', HISTOGRAM.replace('{le="2"} 3', '{le="2"} 0')],
    ['bounds that do not ascend', HISTOGRAM.replace('le="2"', 'le="0.5"')],
    ['another count than that of the buckets', HISTOGRAM.replace('h_count 3', 'h_count 4')],
    ['no sum', HISTOGRAM.replace('h_sum 4.5\n', '')],
  ])('%s', (_, text) => {
    expect(() => new Exposition(text)).toThrow()
  })
})
