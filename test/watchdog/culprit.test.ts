import { expect, test } from 'vitest'
import { culpritOf, describeFrame, type Frame } from '../../src/execution/watchdog/culprit.ts'

const own = new URL('../../src/execution/Execution.ts', import.meta.url).href

function frame(url: string, functionName = 'f', line = 1): Frame {
  return { url, functionName, line, column: 1 }
}

const author = frame('file:///srv/tasks/report.ts', 'makeReport', 12)

test.each([
  ['the innermost of an author', [author, frame('file:///srv/tasks/other.ts')]],
  ["not Node's", [frame('node:fs'), author]],
  ["not a package's", [frame('file:///srv/node_modules/zod/index.js'), author]],
  ['not code made from a text', [frame(''), author]],
  ['not what the author called of this program', [frame(own), author]],
])('the line to blame is %s', (_, frames) => {
  expect(culpritOf(frames)).toEqual({ function: 'makeReport', file: '/srv/tasks/report.ts', line: 12 })
})

test('this program is named where nobody else is there to blame', () => {
  expect(culpritOf([frame('node:fs'), frame(own, 'run', 7)])).toMatchObject({ function: 'run', line: 7 })
})

test('a package is named where there is nothing else, and so is Node', () => {
  expect(culpritOf([frame('node:fs'), frame('file:///srv/node_modules/a/b.js')])?.file).toBe('node:fs')
  expect(culpritOf([frame('file:///srv/node_modules/a/b.js'), frame('node:fs')])?.file).toBe('/srv/node_modules/a/b.js')
})

test('a stack without a file has no line to blame', () => {
  expect(culpritOf([frame('')])).toBeUndefined()
  expect(culpritOf([])).toBeUndefined()
})

test('a frame is written as in a stack trace', () => {
  expect(describeFrame(author)).toBe('makeReport (/srv/tasks/report.ts:12:1)')
  expect(describeFrame(frame('', ''))).toBe('(anonymous) (no file:1:1)')
  expect(describeFrame(frame('file:///srv/tasks/a%20b.ts?t=1'))).toBe('f (/srv/tasks/a b.ts:1:1)')
})
