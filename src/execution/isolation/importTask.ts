import { messageOf } from '../../job/messageOf.ts'
import type { TaskDefinition } from '../task.ts'

/** What a task's process needs of a definition; its schema was checked where the job was started. */
export type IsolatedTask = Pick<TaskDefinition, 'name' | 'run'>

/** The task `name` that the module at `url` exports, under whatever name. @throws {Error} naming what is wrong */
export async function importTask(url: string, name: string): Promise<IsolatedTask> {
  const exported = Object.values(await load(url))
  const task = exported.find((value): value is IsolatedTask => isTask(value) && value.name === name)
  if (task === undefined) throw new Error(`${url} exports no task ${name}: export const NAME = defineTask({ … })`)
  return task
}

async function load(url: string): Promise<Record<string, unknown>> {
  try {
    return await import(url)
  } catch (error) {
    const message = messageOf(error)
    throw new Error(`${url} cannot be loaded: ${message}`, { cause: error })
  }
}

function isTask(value: unknown): value is IsolatedTask {
  if (typeof value !== 'object' || value === null) return false
  return 'name' in value && 'run' in value && typeof value.run === 'function'
}
