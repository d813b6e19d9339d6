import type { JobScope } from '../cancellation/JobScope.ts'
import { TaskFailure } from '../job/failure.ts'
import type { Json } from '../job/json.ts'
import { refusalOf } from './refusalOf.ts'
import type { TaskValues } from './task.ts'
import { unowned } from './unowned.ts'
import { untilCancelled } from './untilCancelled.ts'

const MAX_VALUE_BYTES = 64 * 1024
const MAX_KEY_LENGTH = 200
export const MAX_LISTED = 1000

/** Values of one task, wherever they are kept. A key and a value are what `TaskValueStore` has let through. */
export interface ValueKeeper {
  get(key: string): Promise<Json | undefined>
  /** Undefined deletes it. Settles when it is kept. */
  set(key: string, json: string | undefined): Promise<void>
  list(prefix: string, after: string, limit: number): Promise<readonly string[]>
}

/** `ctx.store`: what is checked of a key and a value, the boundary before each call, and that a slow store holds up no cancel. */
export class TaskValueStore implements TaskValues {
  readonly #scope: JobScope
  readonly #keeper: ValueKeeper

  constructor(scope: JobScope, keeper: ValueKeeper) {
    this.#scope = scope
    this.#keeper = keeper
  }

  get(key: string): Promise<Json | undefined> {
    return this.#call(() => this.#keeper.get(checkedKey(key)))
  }

  put(key: string, value: Json): Promise<void> {
    return this.#call(() => this.#keeper.set(checkedKey(key), jsonOf(key, value)))
  }

  delete(key: string): Promise<void> {
    return this.#call(() => this.#keeper.set(checkedKey(key), undefined))
  }

  list({
    prefix = '',
    after = '',
  }: {
    readonly prefix?: string
    readonly after?: string
  } = {}): Promise<readonly string[]> {
    return this.#call(() => this.#keeper.list(textOf('prefix', prefix), textOf('after', after), MAX_LISTED))
  }

  #call<T>(work: () => Promise<T>): Promise<T> {
    return unowned(refusalOf(this.#scope) ?? untilCancelled(this.#scope, Promise.try(work)))
  }
}

/** @throws {TaskFailure} `TETHER_VALUE_INVALID` */
export function checkedKey(key: unknown): string {
  if (typeof key === 'string' && key.length > 0 && key.length <= MAX_KEY_LENGTH && key.isWellFormed()) return key
  const got = typeof key === 'string' ? `${key.length} characters` : `a ${typeof key}`
  throw new TaskFailure('TETHER_VALUE_INVALID', `a key must be a text of 1 to ${MAX_KEY_LENGTH} characters, got ${got}`)
}

/** Authors may write JavaScript, where no type says what it must be. */
function textOf(name: string, value: unknown): string {
  if (typeof value === 'string') return value
  throw new TaskFailure('TETHER_VALUE_INVALID', `${name} must be a text, got a ${typeof value}`)
}

function jsonOf(key: string, value: Json): string {
  let json: string | undefined
  try {
    json = JSON.stringify(value)
  } catch (error) {
    throw new TaskFailure('TETHER_VALUE_INVALID', `the value of ${key} cannot be written as JSON`, { cause: error })
  }
  if (json === undefined)
    throw new TaskFailure('TETHER_VALUE_INVALID', `the value of ${key} must be JSON, got ${typeof value}`)
  return checkedJson(key, json)
}

/** @throws {TaskFailure} `TETHER_VALUE_INVALID` */
export function checkedJson(key: string, json: string): string {
  const bytes = Buffer.byteLength(json)
  if (bytes <= MAX_VALUE_BYTES) return json
  throw new TaskFailure(
    'TETHER_VALUE_INVALID',
    `a value may have ${MAX_VALUE_BYTES} bytes of JSON, that of ${key} has ${bytes}`,
  )
}
