import { defineTask, defineTool, Type } from '../src/execution/task.ts'

/** An agent with tools of one's own: what it may do is what it is given. */
export const review = defineTask({
  name: 'review',
  description: 'Lets an agent review a git repository: it can look at it, and note what it finds.',
  input: Type.Object({ folder: Type.String({ minLength: 1 }) }, { additionalProperties: false }),
  async run(ctx, { folder }) {
    const findings: string[] = []
    const git = defineTool({
      name: 'git',
      description: 'Runs a git command that only reads: log, show, diff, blame, ls-files.',
      input: Type.Object(
        {
          command: Type.Union(['log', 'show', 'diff', 'blame', 'ls-files'].map((name) => Type.Literal(name))),
          args: Type.Optional(Type.Array(Type.String({ pattern: '^[^-]' }), { maxItems: 20 })),
        },
        { additionalProperties: false },
      ),
      async run(_, { command, args = [] }) {
        const argv = ['git', '-C', folder, '--no-pager', command, ...(args.length > 0 ? ['--', ...args] : [])] as const
        const { exitCode, stdout, stderr } = await ctx.exec(argv, { output: 'collect', maxCollectBytes: 60_000 })
        return { text: stdout + stderr, summary: `git ${String(command)}`, ok: exitCode === 0 }
      },
    })
    const note = defineTool({
      name: 'note',
      description: 'Writes down one finding.',
      input: Type.Object({ finding: Type.String({ minLength: 1 }) }, { additionalProperties: false }),
      async run(_, { finding }) {
        findings.push(finding)
        await ctx.data('finding', { finding })
        return 'noted'
      },
    })
    const { text } = await ctx.agent({
      prompt: 'Review the latest commit of this repository. Note each finding, then sum up in two sentences.',
      tools: [git, note],
      maxSteps: 30,
    })
    return { text, findings }
  },
})
