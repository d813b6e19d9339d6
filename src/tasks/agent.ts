import { defineTask, MAX_AGENT_STEPS, Type } from '../execution/task.ts'

/** A model with tools, on the task that `prompt` says (protocol, section 5). */
export const agent = defineTask({
  name: 'agent',
  description: 'Lets a language model work on a task with tools: a terminal, files, a browser, sub-agents.',
  input: Type.Object(
    {
      prompt: Type.String({ minLength: 1, description: 'the task, as the last user message' }),
      model: Type.Optional(
        Type.String({
          pattern: '^[!-~]{1,200}$',
          description: 'openai:NAME, anthropic:NAME, scripted or a name; default: MODEL',
        }),
      ),
      maxSteps: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: MAX_AGENT_STEPS,
          description: 'model calls at the most, also of each sub-agent; default 50',
        }),
      ),
      maxTokens: Type.Optional(
        Type.Integer({
          minimum: 1,
          description: 'tokens in and out of all model calls at the most; default: no limit',
        }),
      ),
    },
    { additionalProperties: false },
  ),
  async run(ctx, input) {
    const { text, steps, usage } = await ctx.agent(input)
    return { text, steps, usage: { ...usage } }
  },
})
