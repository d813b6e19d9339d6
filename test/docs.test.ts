import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ERROR_STATUS } from '../src/job/error.ts'
import { isTerminal, STATUS_TABLE, STATUSES } from '../src/job/status.ts'

const ROOT = join(import.meta.dirname, '..')

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

/** The rows of the table that stands under a heading, as texts of cells; code marks are dropped. */
function tableUnder(heading: string, path: string): readonly (readonly string[])[] {
  const [, section = ''] = read(path).split(`\n## ${heading}\n`)
  const lines = (section.split('\n## ')[0] ?? '').split('\n').filter((line) => line.startsWith('|'))
  const rows = lines.slice(2).map((line) => line.split('|').slice(1, -1))
  return rows.map((cells) => cells.map((cell) => cell.trim().replaceAll('`', '')))
}

/** Of the same form, but a variable in the environment of a job's processes. */
const NO_CODES = ['TETHER_JOB']

const MOVES = STATUSES.flatMap((from) => STATUS_TABLE[from].map((to) => `${from} --> ${to}`))

test('the diagram of docs/states.md draws the moves of the table and no others', () => {
  const [, diagram = ''] = read('docs/states.md').split(/```mermaid\n|```\n/)
  const arrows = diagram.split('\n').filter((line) => line.includes('-->'))
  const ends = STATUSES.filter(isTerminal).map((status) => `${status} --> [*]`)
  expect(arrows.map((line) => line.trim())).toEqual(['[*] --> queued', ...MOVES, ...ends])
})

test('docs/states.md says of every move when it is made', () => {
  const rows = tableUnder('Moves', 'docs/states.md')
  expect(rows.map(([from, to]) => `${from} --> ${to}`)).toEqual(MOVES)
  expect(rows.filter(([, , when]) => !when)).toEqual([])
})

test('docs/states.md says of every status what it means and whether it is terminal', () => {
  const rows = tableUnder('Statuses', 'docs/states.md')
  expect(rows.map(([status, terminal]) => [status, terminal])).toEqual(
    STATUSES.map((status) => [status, isTerminal(status) ? 'yes' : 'no']),
  )
})

test('docs/errors.md lists every code of an answer with its HTTP status', () => {
  const rows = tableUnder('Answers', 'docs/errors.md')
  expect(rows.map(([code, status]) => [code, Number(status)])).toEqual(Object.entries(ERROR_STATUS))
})

test('docs/errors.md lists every failure code that the source names, and no other', () => {
  const files = globSync('src/**/*.ts', { cwd: ROOT }).filter((file) => !file.startsWith('src/client/'))
  expect(files.length).toBeGreaterThan(15)
  const named = files.flatMap((file) => [...read(file).matchAll(/'(TETHER_[A-Z_]+)'/g)].map(([, code]) => code))
  const others = [...Object.keys(ERROR_STATUS), ...NO_CODES]
  const failures = new Set(named.filter((code) => code !== undefined && !others.includes(code)))
  const documented = tableUnder('Failures of jobs', 'docs/errors.md').map(([code]) => code)
  expect(new Set(documented)).toEqual(failures)
})
