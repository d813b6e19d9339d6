import Type from 'typebox'
import { TaskFailure } from '../../../job/failure.ts'
import type { Json } from '../../../job/json.ts'
import type { Usage } from '../../../job/receipt.ts'
import { type AgentOptions, type AgentTool, defineTool, MAX_AGENT_STEPS, type TaskContext } from '../../task.ts'
import type { TokenBudget } from '../TokenBudget.ts'

/** The same for all agents: its validator is compiled once. */
const INPUT = Type.Object(
  { prompt: Type.String({ minLength: 1, description: 'the whole task of the sub-agent' }) },
  { additionalProperties: false },
)

/**
 * Hands a part of the work to a child job of the task `agent`, which stops and ends with its parent. It uses the parent's model, may
 * make as many model calls as its parent, and has no more tokens than the parent has left; several at the same time may use so many
 * each.
 */
export function subAgent(
  { model, maxSteps }: Pick<AgentOptions, 'model' | 'maxSteps'>,
  budget: TokenBudget,
): AgentTool {
  return defineTool({
    name: 'sub_agent',
    description:
      'Lets another agent work on a part of the task, in the same workspace. It sees nothing of this conversation: its prompt must say all that it needs. Answers with its last words. Several in one answer work at the same time.',
    input: INPUT,
    isParallel: true,
    async run(ctx, { prompt }) {
      budget.assertLeft()
      const maxTokens = budget.leftTokens
      const input = {
        prompt,
        ...(model === undefined ? {} : { model }),
        ...(maxSteps === undefined ? {} : { maxSteps: Math.min(maxSteps, MAX_AGENT_STEPS) }),
        ...(maxTokens === undefined ? {} : { maxTokens }),
      }
      const { text, usage } = resultOf(await ran(ctx, input, budget))
      budget.count(usage)
      return text === '' ? 'The sub-agent ended without a word.' : text
    },
  })
}

/** A sub-agent that fails does not say what it used: all that it was given is taken for used. */
async function ran(ctx: TaskContext, input: { readonly maxTokens?: number }, budget: TokenBudget): Promise<Json> {
  try {
    return await ctx.run('agent', { ...input }, { sharesWorkspace: true })
  } catch (error) {
    const hasRun = error instanceof TaskFailure && error.code === 'TETHER_CHILD_FAILED'
    if (hasRun && input.maxTokens !== undefined) budget.count({ totalTokens: input.maxTokens })
    throw error
  }
}

/** As the task `agent` gives it; a task of that name that is another's may give anything. */
function resultOf(result: Json): { readonly text: string; readonly usage: Usage } {
  if (typeof result !== 'object' || result === null || !('text' in result) || typeof result.text !== 'string') {
    return { text: JSON.stringify(result), usage: {} }
  }
  const { text, usage } = result
  const totalTokens = typeof usage === 'object' && usage !== null && 'totalTokens' in usage ? usage.totalTokens : 0
  return { text, usage: typeof totalTokens === 'number' ? { totalTokens } : {} }
}
