import type { LanguageModelV4FunctionTool, LanguageModelV4Message, LanguageModelV4ToolCall } from '@ai-sdk/provider'
import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { TaskFailure } from '../../job/failure.ts'
import { messageOf } from '../../job/messageOf.ts'
import { parseToolInput } from '../model/toolInput.ts'
import { describeSchemaErrors } from '../schemaErrors.ts'
import { shownName } from '../shownTool.ts'
import type { AgentTool, TaskContext, ToolAnswer } from '../task.ts'

type ToolResult = Extract<LanguageModelV4Message, { role: 'tool' }>['content'][number]

const TOOL_NAME = /^[a-zA-Z][a-zA-Z0-9_-]{0,63}$/

/** What a model gets to read of one tool's answer at the most (UTF-16 units); the tools that are built in stay below. */
const MAX_TOLD_UNITS = 100_000

/** And of the answers to all calls of one step together; past it each has so much left that a failure can still be read. */
const MAX_TOLD_TOGETHER_UNITS = 1_000_000
const LEAST_TOLD_UNITS = 200

/** So many calls of one answer run at the same time: a thousand files or sub-agents at once are more than the machine has room for. */
const MAX_AT_A_TIME = 64

/** A model that calls more tools in one answer than this calls them for ever; each has its result in the conversation from then on. */
const MAX_CALLS = 256

/** To compile one takes a millisecond and tens of kilobytes, and agents are many where tools are few. */
const validators = new WeakMap<TSchema, Validator>()

/** The tools of one agent: what the model is told of them, and what becomes of its calls. */
export class ToolSet {
  readonly definitions: readonly LanguageModelV4FunctionTool[]
  readonly #tools = new Map<string, { readonly tool: AgentTool; readonly validator: Validator }>()

  /** @throws {TypeError} for a malformed name, or one that stands twice */
  constructor(tools: readonly AgentTool[]) {
    for (const tool of tools) {
      if (!TOOL_NAME.test(tool.name)) {
        throw new TypeError(`a tool's name must match ${TOOL_NAME.source}, got ${JSON.stringify(tool.name)}`)
      }
      if (this.#tools.has(tool.name)) throw new TypeError(`there are two tools ${tool.name}`)
      this.#tools.set(tool.name, { tool, validator: validatorOf(tool.input) })
    }
    this.definitions = tools.map(({ name, description, input }) => ({
      type: 'function',
      name,
      description,
      inputSchema: input as LanguageModelV4FunctionTool['inputSchema'],
    }))
  }

  /** Runs the calls of one answer and settles with what to tell the model of each, in their order. @throws {JobStopped} */
  async answer(ctx: TaskContext, calls: readonly LanguageModelV4ToolCall[]): Promise<readonly ToolResult[]> {
    const taken = calls.slice(0, MAX_CALLS)
    const answers: ToolAnswer[] = []
    while (answers.length < taken.length) {
      const together = this.#togetherFrom(taken, answers.length)
      answers.push(...(await mappedInOrder(together, ({ toolName, input }) => this.#answerOf(ctx, toolName, input))))
    }
    const tooMany = refusal(`not run: one answer may call ${MAX_CALLS} tools, this one calls ${calls.length}`)
    return toldOf(calls, [...answers, ...calls.slice(MAX_CALLS).map(() => tooMany)])
  }

  /** Calls of one tool that follow each other and may run at the same time; else the one call. */
  #togetherFrom(calls: readonly LanguageModelV4ToolCall[], start: number): readonly LanguageModelV4ToolCall[] {
    const rest = calls.slice(start)
    const name = rest[0]?.toolName ?? ''
    if (this.#tools.get(name)?.tool.isParallel !== true) return rest.slice(0, 1)
    const end = rest.findIndex(({ toolName }) => toolName !== name)
    return end === -1 ? rest : rest.slice(0, end)
  }

  async #answerOf(ctx: TaskContext, name: string, json: string): Promise<ToolAnswer> {
    const found = this.#tools.get(name)
    const input = parseToolInput(json)
    try {
      return await ctx.tool(shownName(name), 'value' in input ? input.value : json, async () => {
        if (found === undefined)
          return refusal(`there is no tool ${shownName(name)}; there are ${[...this.#tools.keys()].join(', ')}`)
        if ('refusedBecause' in input) return refusal(input.refusedBecause)
        const { value } = input
        const { tool, validator } = found
        if (validator.Check(value)) return tool.run(ctx, value)
        return refusal(describeSchemaErrors(validator.Errors(value), value, 'input'))
      })
    } catch (error) {
      // A stop or cancel is met here again, whatever the tool made of it: it is never told to the model as a failure.
      ctx.checkpoint()
      // Of this one the job fails in any case.
      if (error instanceof TaskFailure && error.code === 'TETHER_OUTPUT_OVERRUN') throw error
      return refusal(messageOf(error))
    }
  }
}

function validatorOf(schema: TSchema): Validator {
  const known = validators.get(schema)
  if (known !== undefined) return known
  const made = Compile(schema)
  validators.set(schema, made)
  return made
}

/**
 * What `work` makes of each, so many at a time. All that was begun has settled by then, also where one is rejected, after which
 * none begins.
 */
async function mappedInOrder<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<readonly R[]> {
  const results: R[] = []
  // One iterator for all: a helper's, unlike that of the array, is closed for the others by the loop that throws.
  const waiting = items.entries().take(items.length)
  const settled = await Promise.allSettled(
    Array.from({ length: Math.min(MAX_AT_A_TIME, items.length) }, async () => {
      for (const [index, item] of waiting) results[index] = await work(item)
    }),
  )
  for (const one of settled) if (one.status === 'rejected') throw one.reason
  return results
}

/** What the model is told of its calls, as long as there is room for it, the first ones first. */
function toldOf(calls: readonly LanguageModelV4ToolCall[], answers: readonly ToolAnswer[]): readonly ToolResult[] {
  let room = MAX_TOLD_TOGETHER_UNITS
  return calls.flatMap(({ toolCallId, toolName }, index) => {
    const answer = answers[index]
    if (answer === undefined) return []
    const text = cut(answer.text, Math.min(MAX_TOLD_UNITS, Math.max(LEAST_TOLD_UNITS, room)))
    room = Math.max(0, room - text.length)
    const output = { type: answer.ok === false ? 'error-text' : 'text', value: text.toWellFormed() } as const
    return [{ type: 'tool-result', toolCallId, toolName: shownName(toolName), output }] as const
  })
}

function cut(text: string, maxUnits: number): string {
  if (text.length <= maxUnits) return text
  return `${text.slice(0, maxUnits)}\n… cut: ${text.length} characters in all`
}

function refusal(text: string): ToolAnswer {
  return { text, ok: false }
}
