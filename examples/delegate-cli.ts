import { defineTask, TaskFailure, Type } from '../src/execution/task.ts'

/**
 * Hands the work to an agent that has a command line of its own, named by AGENT_BIN: whatever it starts, a model call, a build, a
 * shell in a session of its own, is inside the job's containment and ends with the job. A stop asks it to end (TERM) and waits.
 */
export const delegate = defineTask({
  name: 'delegate-cli',
  description: 'Runs the command line of another agent, named by AGENT_BIN, on a prompt.',
  input: Type.Object({ prompt: Type.String({ minLength: 1 }) }, { additionalProperties: false }),
  concurrencyLimit: 1,
  async run(ctx, { prompt }) {
    const { AGENT_BIN: program, AGENT_KEY: key } = process.env
    if (program === undefined) throw new TaskFailure('AGENT_BIN_MISSING', 'AGENT_BIN must name the program of an agent')
    const { exitCode, signal } = await ctx.exec([program, prompt], {
      cwd: await ctx.workspace(),
      // What it needs of the server's environment is handed on by name: commands get no secrets by themselves.
      env: key === undefined ? {} : { AGENT_KEY: key },
      onStop: 'terminate',
    })
    ctx.checkpoint()
    if (exitCode !== 0) throw new TaskFailure('AGENT_FAILED', `it ended with ${signal ?? `code ${exitCode}`}`)
    return { exitCode }
  },
})
