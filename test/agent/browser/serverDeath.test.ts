import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { ContainmentLevel } from '../../../src/job/receipt.ts'
import { dataFolder, RealServer } from '../../processes/RealServer.ts'
import { availableLevels } from '../../processes/world.ts'
import { eventually } from '../../world.ts'
import { hasChromium, openSite, processesOf } from './world.ts'

const SRC = join(import.meta.dirname, '../../../src')

/** A task that opens a page and then waits, in the server's process or in one of its own. */
const TASKS = ['none', 'process'].map(
  (isolate) => `export const browse_${isolate} = {
    name: 'browse_${isolate}',
    ${isolate === 'process' ? "isolate: 'process'," : ''}
    input: { type: 'object' },
    async run(ctx, { url }) {
      const [open] = await browserTools()
      await ctx.output((await open.run(ctx, { url })).text)
      await ctx.sleep(600_000)
    },
  }`,
)

const levels = (await availableLevels()).map(({ level }) => level)
const LEVELS = [...new Set<ContainmentLevel>([levels[0] ?? 'group', 'group'])]

describe.skipIf(!hasChromium)('when the server is killed', { timeout: 60_000 }, () => {
  test.each(
    LEVELS.flatMap((level) => [
      { level, task: 'browse_none' },
      { level, task: 'browse_process' },
    ]),
  )('no process of a browser is left (level $level, task $task)', async ({ level, task }) => {
    const site = await openSite({ '/': '<h1>Open</h1>' })
    const dataDir = dataFolder()
    const TASKS_DIR = join(dataDir, 'tasks')
    mkdirSync(TASKS_DIR)
    const imported = `import { browserTools } from '${SRC}/execution/agent/browser/browserTools.ts'\n`
    writeFileSync(join(TASKS_DIR, 'browse.ts'), imported + TASKS.join('\n'))
    const server = await RealServer.start({ level, dataDir, settings: { TASKS_DIR } })
    if (server === undefined) throw new Error(`${level} was there a moment ago`)
    const { id } = await server.post('/jobs', { task, input: { url: site.url } })
    await eventually('the page is open', async () => (await server.job(id)).lastSeq >= 3, 30_000)
    const before = processesOf(id)
    expect(before.length).toBeGreaterThan(5)
    await server.kill('SIGKILL')
    await eventually('all are gone', () => processesOf(id).length === 0)
  })
})
