import type { Duplex } from 'node:stream'
import { TaskFailure } from '../../job/failure.ts'
import type { Json } from '../../job/json.ts'
import type { ValueKeeper } from '../TaskValueStore.ts'
import type { ValueCall } from './fromChild.ts'
import { writeLine } from './jsonLines.ts'
import type { ValueAnswer } from './toChild.ts'

/** What jobs of the task keep, as a task's process sees it: the server keeps it. */
export class RemoteValues implements ValueKeeper {
  readonly #channel: Duplex
  readonly #waiting = new Map<number, (answer: ValueAnswer) => void>()
  #lastId = 0

  constructor(channel: Duplex) {
    this.#channel = channel
  }

  async get(key: string): Promise<Json | undefined> {
    const answer = await this.#ask({ do: 'get', key })
    return answer.kind === 'value' ? answer.value : undefined
  }

  async set(key: string, json: string | undefined): Promise<void> {
    await this.#ask({ do: 'set', key, ...(json === undefined ? {} : { json }) })
  }

  async list(prefix: string, after: string, limit: number): Promise<readonly string[]> {
    const answer = await this.#ask({ do: 'list', prefix, after, limit })
    return answer.kind === 'keys' ? answer.keys : []
  }

  settle(id: number, answer: ValueAnswer): void {
    this.#waiting.get(id)?.(answer)
    this.#waiting.delete(id)
  }

  async #ask(call: ValueCall['call']): Promise<Exclude<ValueAnswer, { kind: 'threw' }>> {
    this.#lastId += 1
    const id = this.#lastId
    const answered = new Promise<ValueAnswer>((resolve) => this.#waiting.set(id, resolve))
    writeLine(this.#channel, { type: 'value', id, call })
    const answer = await answered
    if (answer.kind !== 'threw') return answer
    const { code, message, ...rest } = answer.failure
    throw new TaskFailure(code, message, rest)
  }
}
