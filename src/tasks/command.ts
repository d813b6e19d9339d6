import Type from 'typebox'
import { defineTask, secret, TaskFailure } from '../execution/task.ts'

const common = {
  cwd: Type.Optional(Type.String({ minLength: 1, description: 'Default: where the server was started.' })),
  env: Type.Optional(
    Type.Record(Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]*$' }), Type.String(), {
      ...secret('values'),
      additionalProperties: false,
      description: "Put over PATH, HOME, LANG and the like; nothing else of the server's environment is handed on.",
    }),
  ),
  stdin: Type.Optional(Type.String({ ...secret('length'), description: 'Its standard input.' })),
}

/** Runs a process tree and streams its output. On a stop it sends TERM to the tree once and ends `stopped` when it is gone. */
export const command = defineTask({
  name: 'command',
  description: 'Runs a shell line (`command`) or a program (`argv`) and streams its output.',
  input: Type.Union([
    Type.Object(
      { command: Type.String({ minLength: 1, description: 'A line for /bin/sh.' }), ...common },
      { additionalProperties: false },
    ),
    Type.Object(
      { argv: Type.Array(Type.String(), { minItems: 1, description: 'A program and its arguments.' }), ...common },
      { additionalProperties: false },
    ),
  ]),
  async run(ctx, input) {
    const { exitCode, signal } = await ctx.exec('command' in input ? input.command : programOf(input.argv), {
      ...(input.cwd === undefined ? {} : { cwd: input.cwd }),
      ...(input.env === undefined ? {} : { env: input.env }),
      ...(input.stdin === undefined ? {} : { stdin: input.stdin }),
      onStop: 'terminate',
    })
    ctx.checkpoint()
    if (exitCode === 0) return { exitCode }
    throw new TaskFailure(
      'TETHER_EXIT_CODE',
      exitCode === null ? `the command was ended by ${signal}` : `the command exited with code ${exitCode}`,
      { ...(exitCode === null ? {} : { exitCode }), ...(signal === null ? {} : { signal }) },
    )
  },
})

function programOf(argv: readonly string[]): readonly [string, ...string[]] {
  const [program, ...rest] = argv
  if (program === undefined || program === '') {
    throw new TaskFailure('TETHER_SPAWN_FAILED', 'argv must begin with the name of a program, got ""')
  }
  return [program, ...rest]
}
