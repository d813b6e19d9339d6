import { execFile } from 'node:child_process'
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { temporaryFolder } from './world.ts'

const FIXTURE = join(import.meta.dirname, 'fixtures', 'asOrdinaryUser.ts')
const NOBODY = 65_534

test('in plain Node, what the user may not do is told to the model, and what it may is done', async () => {
  const folder = temporaryFolder()
  chmodSync(folder, 0o777)
  const user = process.geteuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {}
  const { stdout } = await promisify(execFile)(process.execPath, [FIXTURE, join(folder, 'workspace')], user)
  expect(JSON.parse(stdout)).toEqual({
    read: { text: '     1\tfoo bar', lines: 1, isCut: false },
    readSecret: 'ToolError: "secret.txt": permission is denied',
    readLocked: 'ToolError: "locked/b.txt": permission is denied',
    writeFixed: 'ToolError: "fixed/c.txt": permission is denied',
    list: {
      text: [
        'fixed/',
        'fixed/c.txt  4 bytes',
        'locked/',
        'open/',
        'open/a.txt  8 bytes',
        'secret.txt  4 bytes',
        '[folders that could not be read: 1]',
      ].join('\n'),
      entries: 6,
      isCut: false,
    },
    listLocked: 'ToolError: "locked": permission is denied',
    search: {
      text: 'fixed/c.txt:1: foo\nopen/a.txt:1: foo bar\n[files and folders that could not be read: 2]',
      matches: 2,
      files: 2,
      isCut: false,
    },
  })
})
