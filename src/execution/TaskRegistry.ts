import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { TetherError } from '../job/error.ts'
import type { Json } from '../job/json.ts'
import { hasSecrets, redact } from './redact.ts'
import { describeSchemaErrors } from './schemaErrors.ts'
import type { TaskContext, TaskDefinition } from './task.ts'

const TASK_NAME = /^[a-z][a-z0-9_-]{0,63}$/

/** A task that may be started. */
export class RegisteredTask {
  readonly name: string
  readonly description: string | undefined
  readonly schema: TSchema
  readonly concurrencyLimit: number | undefined
  readonly retriesOnInterrupt: boolean
  /** The module that exports it, where it runs in a process of its own. */
  readonly isolatedModule: string | undefined
  readonly #definition: TaskDefinition
  readonly #validator: Validator

  constructor(definition: TaskDefinition) {
    this.name = definition.name
    this.description = definition.description
    this.schema = definition.input
    this.concurrencyLimit = definition.concurrencyLimit
    this.retriesOnInterrupt = definition.retryOnInterrupt === true
    this.isolatedModule = definition.isolate === 'process' ? definition.module : undefined
    this.#definition = definition
    this.#validator = Compile(definition.input)
  }

  /** @throws {TetherError} `TETHER_INVALID_REQUEST` naming the field of `input` that is wrong. */
  assertInput(input: Json): void {
    if (this.#validator.Check(input)) return
    throw new TetherError('TETHER_INVALID_REQUEST', describeSchemaErrors(this.#validator.Errors(input), input, 'input'))
  }

  redact(input: Json): Json {
    return redact(this.schema, input)
  }

  run(ctx: TaskContext, input: Json): Promise<Json | undefined | void> {
    return this.#definition.run(ctx, input)
  }
}

/** The tasks of this server, by name. */
export class TaskRegistry {
  readonly #tasks = new Map<string, RegisteredTask>()

  /**
   * @throws {Error} where the name is malformed or taken, the schema is not one, an isolated task names no module, or one with
   * secrets is to be retried.
   */
  register(definition: TaskDefinition): void {
    const { name } = definition
    if (!TASK_NAME.test(name)) {
      throw new Error(`a task's name must match ${TASK_NAME.source}, got ${JSON.stringify(name)}`)
    }
    if (this.#tasks.has(name)) throw new Error(`there is already a task ${name}`)
    assertIsolation(definition)
    if (definition.retryOnInterrupt === true && hasSecrets(definition.input)) {
      throw new Error(`task ${name} has secrets, which are erased once it is claimed: it cannot have retryOnInterrupt`)
    }
    this.#tasks.set(name, new RegisteredTask(definition))
  }

  /** @throws {TetherError} `TETHER_TASK_NOT_FOUND` naming the tasks that there are. */
  get(name: string): RegisteredTask {
    const task = this.#tasks.get(name)
    if (task !== undefined) return task
    const known = [...this.#tasks.keys()].join(', ')
    throw new TetherError(
      'TETHER_TASK_NOT_FOUND',
      `there is no task ${JSON.stringify(name.slice(0, 80))}; known: ${known}`,
    )
  }

  find(name: string): RegisteredTask | undefined {
    return this.#tasks.get(name)
  }

  list(): readonly RegisteredTask[] {
    return [...this.#tasks.values()]
  }
}

/** Authors may write JavaScript, where no type says what `isolate` may be. */
function assertIsolation({ name, isolate, module }: { name: string; isolate?: unknown; module?: unknown }): void {
  if (isolate === undefined) return
  if (isolate !== 'process')
    throw new Error(`isolate of task ${name} must be 'process', got ${JSON.stringify(isolate)}`)
  if (typeof module !== 'string') {
    throw new Error(`task ${name} is isolated, so it must name the module that exports it: module: import.meta.url`)
  }
  if (!URL.canParse(module)) {
    throw new Error(`module of task ${name} must be a URL such as import.meta.url, got ${JSON.stringify(module)}`)
  }
}
