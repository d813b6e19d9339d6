import { defineTask, TaskFailure, Type } from '../src/execution/task.ts'

const MAX_CHARS = 50_000

/**
 * Fetches a page and lets a model summarise it. Nothing here passes a signal: `ctx.fetch` and the model are the job's own, so a
 * cancel closes their connections wherever they are, and after a stop the next of them raises.
 */
export const summarize = defineTask({
  name: 'summarize',
  description: 'Fetches a text from a URL and summarises it.',
  input: Type.Object({ url: Type.String({ pattern: '^https?://' }) }, { additionalProperties: false }),
  async run(ctx, { url }) {
    const response = await ctx.fetch(url)
    if (!response.ok) throw new TaskFailure('FETCH_FAILED', `${url} answered ${response.status}`)
    const text = (await response.text()).slice(0, MAX_CHARS)
    await ctx.progress(1, { total: 2, message: `read ${text.length} characters` })
    const model = await ctx.model()
    const { content } = await model.doGenerate({
      prompt: [
        { role: 'system', content: 'Summarise the text in three sentences.' },
        { role: 'user', content: [{ type: 'text', text }] },
      ],
    })
    const summary = content.map((part) => (part.type === 'text' ? part.text : '')).join('')
    await ctx.output(summary)
    return { url, summary }
  },
})
