import type { LanguageModelV4, LanguageModelV4Prompt } from '@ai-sdk/provider'
import { TaskFailure } from '../../job/failure.ts'
import { sumOf, type Usage } from '../../job/receipt.ts'
import { askModel } from '../model/askModel.ts'
import type { ModelAnswer } from '../model/ModelAnswer.ts'
import type { AgentOptions, AgentResult, TaskContext } from '../task.ts'
import { builtInTools } from './builtInTools.ts'
import { Conversation } from './Conversation.ts'
import { SYSTEM_PROMPT } from './systemPrompt.ts'
import { TokenBudget } from './TokenBudget.ts'
import { ToolSet } from './ToolSet.ts'

const DEFAULT_MAX_STEPS = 50

/**
 * The loop over a model and its tools: asks, runs what is called, tells what came of it, until the model calls nothing more. It is
 * ours, and not a library's, because of its end: what a stop or cancel makes of a call must never be told to the model as a tool's
 * failure, and no call may follow. Every step goes through the boundaries of `ctx`, which see to that.
 */
export async function runAgent(ctx: TaskContext, options: AgentOptions): Promise<AgentResult> {
  const { maxSteps = DEFAULT_MAX_STEPS } = options
  const budget = new TokenBudget(options.maxTokens)
  const tools = new ToolSet(options.tools ?? (await builtInTools(options, budget)))
  const model = await ctx.model(options.model)
  const conversation = new Conversation()
  conversation.add(
    { role: 'system', content: options.system ?? SYSTEM_PROMPT },
    { role: 'user', content: [{ type: 'text', text: options.prompt }] },
  )
  let usage: Usage = {}
  for (let step = 1; step <= maxSteps; step += 1) {
    budget.assertLeft()
    const answer = await answerTo(model, conversation.messages, { ctx, tools, budget })
    usage = sumOf(usage, answer.usage)
    if (answer.calls.length === 0) return { text: answer.text, steps: step, usage }
    // Else the next answer would go on in the same line.
    if (answer.text !== '' && !answer.text.endsWith('\n')) await ctx.output('\n')
    conversation.add(answer.message, { role: 'tool', content: [...(await tools.answer(ctx, answer.calls))] })
  }
  throw new TaskFailure('TETHER_MAX_STEPS', `the agent was not done after ${maxSteps} model calls (maxSteps)`)
}

interface Step {
  readonly ctx: TaskContext
  readonly tools: ToolSet
  readonly budget: TokenBudget
}

async function answerTo(
  model: LanguageModelV4,
  prompt: LanguageModelV4Prompt,
  { ctx, tools, budget }: Step,
): Promise<ModelAnswer> {
  const limit = budget.answerLimit
  const options = {
    prompt,
    tools: [...tools.definitions],
    onText: (text: string) => ctx.output(text),
    onReasoning: (text: string) => ctx.output(text, 'reasoning'),
    ...(limit === undefined ? {} : { maxOutputTokens: limit }),
  }
  try {
    const answer = await askModel(model, options, ctx)
    budget.countCall(answer.usage, prompt, JSON.stringify(answer.message))
    return answer
  } catch (error) {
    const isCutByBudget = limit !== undefined && error instanceof TaskFailure && error.code === 'TETHER_MODEL_TRUNCATED'
    if (!isCutByBudget) throw error
    budget.count({ totalTokens: limit })
    throw budget.exceeded()
  }
}
