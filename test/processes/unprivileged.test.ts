import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'

const NOBODY = '65534'
const SCRIPT = join(import.meta.dirname, 'asNobody.ts')

describe.runIf(process.platform === 'linux' && process.geteuid?.() === 0)('an ordinary user', () => {
  test('gets a pid namespace where the kernel lets users make them, and everything at each level works', async () => {
    const user = ['--reuid', NOBODY, '--regid', NOBODY, '--clear-groups']
    const { stdout } = await promisify(execFile)('setpriv', [...user, '--', process.execPath, SCRIPT])
    const { best, tried, seen } = JSON.parse(stdout)
    expect(seen.map(({ level }: { level: string }) => level)).toContain('group')
    expect(best).toBe(seen[0].level)
    expect(tried.length).toBe(3 - seen.length)
    for (const { level, ...what } of seen) {
      expect(what, level).toEqual({
        status: { exitCode: 5, signal: null },
        stdout: `${NOBODY}\n`,
        honoured: { killed: false, processes: 1, survivors: [] },
        escaped: { survivors: [], left: 0 },
      })
    }
  })
})
