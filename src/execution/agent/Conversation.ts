import type { LanguageModelV4Message } from '@ai-sdk/provider'
import { TaskFailure } from '../../job/failure.ts'

/** All of it is kept, and sent with every call; no model reads so much. */
const MAX_BYTES = 32 * 1024 * 1024

/** What a model is sent: what it was told and what it said, from the first message on. */
export class Conversation {
  readonly #messages: LanguageModelV4Message[] = []
  #bytes = 0

  get messages(): LanguageModelV4Message[] {
    return this.#messages
  }

  /** @throws {TaskFailure} `TETHER_CONVERSATION_TOO_LARGE` past 32 MiB of JSON */
  add(...messages: readonly LanguageModelV4Message[]): void {
    this.#messages.push(...messages)
    this.#bytes += Buffer.byteLength(JSON.stringify(messages))
    if (this.#bytes <= MAX_BYTES) return
    throw new TaskFailure(
      'TETHER_CONVERSATION_TOO_LARGE',
      `the conversation with the model may have ${MAX_BYTES} bytes, and has ${this.#bytes}`,
    )
  }
}
