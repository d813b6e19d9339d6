import type { EventLog } from '../eventlog/EventLog.ts'
import type { ValueKeeper } from '../execution/TaskValueStore.ts'
import { TaskFailure } from '../job/failure.ts'
import type { Json } from '../job/json.ts'
import type { JobStore } from '../store/JobStore.ts'

/** The values of one task of one tenant, in the store. They are written in the commit of their turn, like everything else. */
export class StoredValues implements ValueKeeper {
  readonly #store: JobStore
  readonly #eventLog: EventLog
  readonly #tenant: string
  readonly #task: string

  constructor(options: {
    readonly store: JobStore
    readonly eventLog: EventLog
    readonly tenant: string
    readonly task: string
  }) {
    this.#store = options.store
    this.#eventLog = options.eventLog
    this.#tenant = options.tenant
    this.#task = options.task
  }

  async get(key: string): Promise<Json | undefined> {
    const json = await this.#store.getValue(this.#tenant, this.#task, key)
    return json === undefined ? undefined : JSON.parse(json)
  }

  /** @throws {TaskFailure} `TETHER_STORE_FAILED` where the store does not take it; then nothing has changed */
  async set(key: string, json: string | undefined): Promise<void> {
    const isWritten = await new Promise<boolean>((settle) => {
      const change = { kind: 'value', tenant: this.#tenant, task: this.#task, key, json } as const
      this.#eventLog.push({ change, settle })
    })
    if (isWritten) return
    throw new TaskFailure('TETHER_STORE_FAILED', `the value of ${key} could not be written`, { retryable: true })
  }

  list(prefix: string, after: string, limit: number): Promise<readonly string[]> {
    return this.#store.listValueKeys(this.#tenant, this.#task, { prefix, after, limit })
  }
}
