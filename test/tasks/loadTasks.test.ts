import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadTasks } from '../../src/tasks/loadTasks.ts'
import { eventsOf, openWorld, startOf, temporaryFolder } from '../world.ts'

const GOOD = `
export const VERSION = 3
export const greets = {
  name: 'greets',
  input: { type: 'object', properties: { who: { type: 'string' } }, required: ['who'] },
  async run(ctx, { who }) { await ctx.output('hello ' + who); return who },
}
`

async function folderOf(files: Readonly<Record<string, string>>): Promise<string> {
  const folder = await temporaryFolder()
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text)
  return folder
}

describe('the modules of TASKS_DIR', () => {
  test('add their tasks, which run like the others', async () => {
    const TASKS_DIR = await folderOf({ 'greets.ts': GOOD, 'README.md': 'no module', 'types.d.ts': 'export type A = 1' })
    const tether = await openWorld({ settings: { TASKS_DIR } })
    const { ref } = await tether.jobs.start(startOf('greets', { who: 'you' }))
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'succeeded', result: 'you' })
    expect(JSON.stringify(await eventsOf(tether, ref))).toContain('hello you')
    await expect(tether.jobs.start(startOf('greets', {}))).rejects.toMatchObject({ code: 'TETHER_INVALID_REQUEST' })
  })

  test('may export several tasks, under any names, and folders among them are left alone', async () => {
    const two = `${GOOD}\nexport default { name: 'other', input: {}, run: async () => 1 }`
    const folder = await folderOf({ 'two.mjs': two })
    await mkdir(join(folder, 'inner.ts'))
    expect((await loadTasks(folder)).map(({ name }) => name).toSorted()).toEqual(['greets', 'other'])
  })

  test.each([
    ['exports no task', { 'none.ts': 'export const a = 1' }, /none\.ts exports no task/],
    ['has an error of syntax', { 'bad.ts': 'export const = 1' }, /bad\.ts cannot be loaded/],
    [
      'throws while it is loaded',
      { 'throws.mjs': "throw new Error('on purpose')" },
      /throws\.mjs cannot be loaded: on purpose/,
    ],
    ['has a task with a name that is taken', { 'a.mjs': GOOD, 'b.mjs': GOOD }, /already a task greets/],
    [
      'has a task with the name of a built-in one',
      { 'a.mjs': GOOD.replace("'greets'", "'ticks'") },
      /already a task ticks/,
    ],
    ['has a task with a malformed name', { 'a.mjs': GOOD.replace("'greets'", "'Greets!'") }, /name must match/],
  ])('end the start where one %s', async (_name, files, message) => {
    const TASKS_DIR = await folderOf(files)
    await expect(openWorld({ settings: { TASKS_DIR } })).rejects.toThrow(message)
  })

  test('end the start where the folder is not there, naming it', async () => {
    await expect(openWorld({ settings: { TASKS_DIR: '/nowhere/at/all' } })).rejects.toThrow('/nowhere/at/all')
  })
})
