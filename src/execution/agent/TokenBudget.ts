import type { LanguageModelV4Prompt } from '@ai-sdk/provider'
import { TaskFailure } from '../../job/failure.ts'
import type { Usage } from '../../job/receipt.ts'

/**
 * Every model can say so much in one answer. A server refuses a limit above what its model can say, and nobody tells what that is:
 * so only what is left at the end is set as one.
 */
const EVERY_MODEL_SAYS_TOKENS = 4096

/** About what a token is, in characters: for servers that do not count. */
const UNITS_PER_TOKEN = 4

/** The tokens that an agent may use, in and out, with those of its sub-agents. */
export class TokenBudget {
  readonly #maxTokens: number | undefined
  #usedTokens = 0

  /** `maxTokens` undefined: any number. */
  constructor(maxTokens: number | undefined) {
    this.#maxTokens = maxTokens
  }

  /** Undefined: any number. */
  get leftTokens(): number | undefined {
    return this.#maxTokens === undefined ? undefined : Math.max(0, this.#maxTokens - this.#usedTokens)
  }

  /** What the next answer is to be limited to, if to anything. */
  get answerLimit(): number | undefined {
    const left = this.leftTokens
    return left !== undefined && left <= EVERY_MODEL_SAYS_TOKENS ? left : undefined
  }

  /** @throws {TaskFailure} `TETHER_MAX_TOKENS` */
  assertLeft(): void {
    if (this.leftTokens === 0) throw this.exceeded()
  }

  count({ totalTokens = 0 }: Usage): void {
    this.#usedTokens += totalTokens
  }

  /** Counts a call: what the server said, or else what was sent and came back. No call takes nothing: 0 is not said. */
  countCall(usage: Usage, prompt: LanguageModelV4Prompt, answer: string): void {
    const isSaid = usage.totalTokens !== undefined && usage.totalTokens > 0
    if (isSaid || this.#maxTokens === undefined) this.count(usage)
    else this.#usedTokens += Math.ceil((JSON.stringify(prompt).length + answer.length) / UNITS_PER_TOKEN)
  }

  exceeded(): TaskFailure {
    return new TaskFailure(
      'TETHER_MAX_TOKENS',
      `the agent was not done within ${this.#maxTokens} tokens (maxTokens), and has used ${this.#usedTokens}`,
    )
  }
}
