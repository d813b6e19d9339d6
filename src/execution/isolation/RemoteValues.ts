import type { Duplex } from 'node:stream'
import { taskFailureOf } from '../../job/failure.ts'
import type { Json } from '../../job/json.ts'
import type { ValueKeeper } from '../TaskValueStore.ts'
import type { ValueCall } from './fromChild.ts'
import { writeLine } from './jsonLines.ts'
import { PendingAnswers } from './PendingAnswers.ts'
import type { ValueAnswer } from './toChild.ts'

/** What jobs of the task keep, as a task's process sees it: the server keeps it. */
export class RemoteValues implements ValueKeeper {
  readonly #channel: Duplex
  readonly #answers = new PendingAnswers<ValueAnswer>()

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
    this.#answers.settle(id, answer)
  }

  async #ask(call: ValueCall['call']): Promise<Exclude<ValueAnswer, { kind: 'threw' }>> {
    const id = this.#answers.newId()
    const answered = this.#answers.to(id)
    writeLine(this.#channel, { type: 'value', id, call })
    const answer = await answered
    if (answer.kind !== 'threw') return answer
    throw taskFailureOf(answer.failure)
  }
}
