import type { LanguageModelV4FunctionTool, LanguageModelV4Message, LanguageModelV4ToolCall } from '@ai-sdk/provider'
import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { TaskFailure } from '../../job/failure.ts'
import type { Json } from '../../job/json.ts'
import { messageOf } from '../../job/messageOf.ts'
import { describeSchemaErrors } from '../schemaErrors.ts'
import type { AgentTool, TaskContext, ToolAnswer } from '../task.ts'

type ToolResult = Extract<LanguageModelV4Message, { role: 'tool' }>['content'][number]

const TOOL_NAME = /^[a-zA-Z][a-zA-Z0-9_-]{0,63}$/

/** What a model gets to read of one tool's answer at the most (UTF-16 units); the tools that are built in stay below. */
const MAX_TOLD_UNITS = 100_000

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
    const results: ToolResult[] = []
    for (let next = 0; next < calls.length; ) {
      const together = this.#togetherFrom(calls, next)
      results.push(...(await settledInOrder(together.map((call) => this.#run(ctx, call)))))
      next += together.length
    }
    return results
  }

  /** Calls of one tool that follow each other and may run at the same time; else the one call. */
  #togetherFrom(calls: readonly LanguageModelV4ToolCall[], start: number): readonly LanguageModelV4ToolCall[] {
    const rest = calls.slice(start)
    const name = rest[0]?.toolName ?? ''
    if (this.#tools.get(name)?.tool.isParallel !== true) return rest.slice(0, 1)
    const end = rest.findIndex(({ toolName }) => toolName !== name)
    return end === -1 ? rest : rest.slice(0, end)
  }

  async #run(ctx: TaskContext, { toolCallId, toolName, input }: LanguageModelV4ToolCall): Promise<ToolResult> {
    const { text, ok } = await this.#answerOf(ctx, toolName, input)
    const value =
      text.length > MAX_TOLD_UNITS ? `${text.slice(0, MAX_TOLD_UNITS)}\n… cut: ${text.length} characters in all` : text
    const output = { type: ok === false ? 'error-text' : 'text', value: value.toWellFormed() } as const
    return { type: 'tool-result', toolCallId, toolName, output }
  }

  async #answerOf(ctx: TaskContext, name: string, json: string): Promise<ToolAnswer> {
    const found = this.#tools.get(name)
    const input = parsed(json)
    const shownName = found === undefined ? name.replaceAll(/[^a-zA-Z0-9_-]/g, '_').slice(0, 64) || 'unknown' : name
    try {
      return await ctx.tool(shownName, input ?? json, async () => {
        if (found === undefined)
          return refusal(`there is no tool ${name}; there are ${[...this.#tools.keys()].join(', ')}`)
        if (input === undefined) return refusal('the input of the call is not JSON')
        const { tool, validator } = found
        if (validator.Check(input)) return tool.run(ctx, input)
        return refusal(describeSchemaErrors(validator.Errors(input), input, 'input'))
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

/** All of them, also where one is rejected: none goes on unseen. */
async function settledInOrder<T>(promises: readonly Promise<T>[]): Promise<readonly T[]> {
  const settled = await Promise.allSettled(promises)
  return settled.map((one) => {
    if (one.status === 'fulfilled') return one.value
    throw one.reason
  })
}

function refusal(text: string): ToolAnswer {
  return { text, ok: false }
}

/** Some models send nothing at all for a tool without parameters. */
function parsed(json: string): Json | undefined {
  if (json.trim() === '') return {}
  try {
    return JSON.parse(json)
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
