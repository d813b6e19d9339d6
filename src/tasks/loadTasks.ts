import type { Dirent } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { TSchema } from 'typebox'
import type { TaskDefinition } from '../execution/task.ts'
import { messageOf } from '../job/messageOf.ts'

const MODULE = /\.(?:ts|mts|js|mjs)$/
const DECLARATION = /\.d\.m?ts$/

/**
 * Every task that the modules in `folder` export, under whatever names; a module may export other things beside them.
 * @throws {Error} naming the module that cannot be loaded or exports no task
 */
export async function loadTasks(folder: string): Promise<readonly TaskDefinition[]> {
  const definitions: TaskDefinition[] = []
  const entries = await entriesOf(folder)
  const names = entries.filter((entry) => !entry.isDirectory()).map((entry) => entry.name)
  for (const name of names.toSorted()) {
    if (!MODULE.test(name) || DECLARATION.test(name)) continue
    const path = resolve(join(folder, name))
    const found = Object.values(await load(path)).filter(isTaskDefinition)
    if (found.length === 0) throw new Error(`${path} exports no task: export const NAME = defineTask({ … })`)
    definitions.push(...found.map((task) => withModule(task, pathToFileURL(path).href)))
  }
  return definitions
}

/** An isolated task is loaded once more, by its own process, which has to know where from. */
function withModule(task: TaskDefinition, module: string): TaskDefinition {
  return task.isolate === undefined || task.module !== undefined ? task : { ...task, module }
}

async function entriesOf(folder: string): Promise<Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true })
  } catch (error) {
    const message = messageOf(error)
    throw new Error(`TASKS_DIR must be a folder that can be read, got ${folder}: ${message}`, { cause: error })
  }
}

async function load(path: string): Promise<Record<string, unknown>> {
  try {
    return await import(pathToFileURL(path).href)
  } catch (error) {
    const message = messageOf(error)
    throw new Error(`${path} cannot be loaded: ${message}`, { cause: error })
  }
}

function isTaskDefinition(value: unknown): value is TaskDefinition {
  if (typeof value !== 'object' || value === null) return false
  return (
    'name' in value &&
    typeof value.name === 'string' &&
    'run' in value &&
    typeof value.run === 'function' &&
    'input' in value &&
    isSchema(value.input)
  )
}

function isSchema(value: unknown): value is TSchema {
  return typeof value === 'object' && value !== null
}
