import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import Type from 'typebox'
import { ToolError } from '../../../resources/files/ToolError.ts'
import { WorkspaceFiles } from '../../../resources/files/WorkspaceFiles.ts'
import { textIn } from '../../readPipe.ts'
import { defineTool, type JobProcess, type TaskContext, type ToolAnswer } from '../../task.ts'
import { Capture } from './Capture.ts'
import { recordOutput } from './recordOutput.ts'

const DEFAULT_TIMEOUT_MS = 120_000
const MAX_TIMEOUT_MS = 3_600_000

/** Of each command's output, the model reads this much of each channel and the job's log gets this much (UTF-16 units). */
const MAX_TOLD_UNITS = 16 * 1024
const MAX_LOGGED_UNITS = 256 * 1024

/** A command that says more than this says it for ever. */
const MAX_SAID_UNITS = 64 * 1024 * 1024

/** A command in the background that fails at once is seen to. */
const BACKGROUND_LOOK_MS = 400

/** Where the output of commands in the background goes, below the workspace. */
const BACKGROUND_FOLDER = '.tether'

/** Nobody pages, answers or sees colours. */
const ENVIRONMENT = { PAGER: 'cat', GIT_PAGER: 'cat', TERM: 'dumb', CI: 'true' }

type ExitStatus = Awaited<JobProcess['exited']>

export const terminal = defineTool({
  name: 'terminal',
  description: `Runs a shell command (/bin/sh) in the workspace and answers with its exit code and output. Without background it is ended after timeoutMs (${DEFAULT_TIMEOUT_MS} where left out) with all that it started. With background it goes on beside you until the task ends, and its output goes to a file that the answer names.`,
  input: Type.Object(
    {
      command: Type.String({ minLength: 1, maxLength: 100_000, description: 'a line for /bin/sh' }),
      background: Type.Optional(Type.Boolean({ description: 'for servers and watchers: do not wait for its end' })),
      timeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_TIMEOUT_MS })),
    },
    { additionalProperties: false },
  ),
  run(ctx, { command, background = false, timeoutMs = DEFAULT_TIMEOUT_MS }) {
    return background ? runInBackground(ctx, command) : runToEnd(ctx, command, timeoutMs)
  },
})

async function runToEnd(ctx: TaskContext, command: string, timeoutMs: number): Promise<ToolAnswer> {
  const process = await ctx.spawn(command, { cwd: await ctx.workspace(), env: ENVIRONMENT })
  let cutBecause: string | undefined
  const cut = (reason: string): void => {
    cutBecause ??= reason
    void process.end()
  }
  const timer = setTimeout(() => cut(`it was ended after ${timeoutMs} ms (timeoutMs)`), timeoutMs)
  const output = new Output(ctx, () => cut(`it was ended, because it said more than ${MAX_SAID_UNITS} characters`))
  try {
    const reading = [output.read(process.stdout, 'stdout'), output.read(process.stderr, 'stderr')]
    // A failure is met below; until then nobody reads on, and the command would wait for that.
    for (const one of reading) one.catch(() => process.end())
    const status = await process.exited
    // What it left behind goes with it, and with that the pipes end.
    await process.end()
    await Promise.all(reading)
    return answerOf(status, output, cutBecause)
  } finally {
    clearTimeout(timer)
  }
}

/** Both channels of one command: to the log, as far as there is room for it, and to the model, beginning and end. */
class Output {
  readonly stdout = new Capture(MAX_TOLD_UNITS)
  readonly stderr = new Capture(MAX_TOLD_UNITS)
  readonly #ctx: TaskContext
  readonly #onTooMuch: () => void
  #loggedUnits = 0

  constructor(ctx: TaskContext, onTooMuch: () => void) {
    this.#ctx = ctx
    this.#onTooMuch = onTooMuch
  }

  async read(pipe: Readable, channel: 'stdout' | 'stderr'): Promise<void> {
    for await (const text of textIn(pipe)) await this.#take(text, channel)
  }

  async #take(text: string, channel: 'stdout' | 'stderr'): Promise<void> {
    this[channel].push(text)
    if (this[channel].units > MAX_SAID_UNITS) this.#onTooMuch()
    const room = MAX_LOGGED_UNITS - this.#loggedUnits
    if (room <= 0) return
    this.#loggedUnits += text.length
    const isLast = text.length >= room
    await this.#ctx.output(
      isLast ? `${text.slice(0, room)}\n… the rest of this output is not logged …\n` : text,
      channel,
    )
  }
}

function answerOf(status: ExitStatus, { stdout, stderr }: Output, cutBecause: string | undefined): ToolAnswer {
  const end = cutBecause ?? endOf(status)
  const said = [section('stdout', stdout), section('stderr', stderr)].filter((text) => text !== '')
  const text = [end, ...(said.length === 0 ? ['(no output)'] : said)].join('\n')
  return { text, summary: end, ok: cutBecause === undefined && status.exitCode === 0 }
}

function endOf({ exitCode, signal }: ExitStatus): string {
  return signal === null ? `exit code ${exitCode}` : `ended by ${signal}`
}

function section(name: string, capture: Capture): string {
  return capture.units === 0 ? '' : `--- ${name} ---\n${capture.toString()}`
}

async function runInBackground(ctx: TaskContext, command: string): Promise<ToolAnswer> {
  const cwd = await ctx.workspace()
  // Sub-agents have the same workspace, and may start one in the same moment.
  const path = `${BACKGROUND_FOLDER}/background-${randomBytes(4).toString('hex')}.log`
  const file = await new WorkspaceFiles(cwd).create(path, ctx.signal)
  if (file === undefined) throw new ToolError(`there is a file ${path} already`)
  const process = await ctx.spawn(command, { cwd, env: ENVIRONMENT }).catch(async (error: unknown) => {
    await file.close()
    throw error
  })
  const output = new Capture(MAX_TOLD_UNITS)
  const recorded = recordOutput(process, file, output)
  const status = await Promise.race([process.exited, ctx.sleep(BACKGROUND_LOOK_MS)])
  if (status === undefined) {
    const text = `it runs in the background (pid ${process.pid}); its output goes to ${path}`
    return { text, summary: text }
  }
  await process.end()
  const end = (await recorded) ?? endOf(status)
  const text = `it ended at once: ${end}\n${section('output', output)}`
  return { text, summary: `ended at once: ${end}`, ok: status.exitCode === 0 }
}
