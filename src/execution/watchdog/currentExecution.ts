import { AsyncLocalStorage } from 'node:async_hooks'

/** Whose code it is that runs. */
export interface CurrentExecution {
  readonly jobId: string
  readonly task: string
}

const current = new AsyncLocalStorage<CurrentExecution>()

const NAME = 'tether.currentExecution'

/**
 * What the watchdog evaluates in the thread that it has paused: a stack does not tell of which job it is, and the code that
 * runs has its context. A text of JSON, or `undefined` where the code belongs to no job.
 */
export const CURRENT_EXECUTION = `globalThis[Symbol.for('${NAME}')]?.()`

/** Calls `work`, and marks everything that comes of it as the execution's. */
export function runAs<T>(execution: CurrentExecution, work: () => T): T {
  return current.run(execution, work)
}

/** Whose code runs, or has just thrown where nobody caught it; undefined where it is nobody's. */
export function currentExecution(): CurrentExecution | undefined {
  return current.getStore()
}

/** Makes `CURRENT_EXECUTION` have a value. An evaluation sees only what is global. */
export function exposeCurrentExecution(): void {
  const value = (): string | undefined => JSON.stringify(current.getStore())
  Object.defineProperty(globalThis, Symbol.for(NAME), { value, configurable: true })
}
