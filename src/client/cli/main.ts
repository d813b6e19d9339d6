import type { Readable, Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import type { StreamOptions } from '../BaseClient.ts'
import { StreamCut, TetherApiError } from '../error.ts'
import type { JobSpec } from '../JobSpec.ts'
import { mintJobId } from '../jobId.ts'
import { plainLine } from '../plainText.ts'
import { TetherClient } from '../TetherClient.ts'
import { answerCommand } from './answerCommand.ts'
import type { ChildStreams } from './ChildStreams.ts'
import { EXIT, exitCodeOfError } from './exit.ts'
import { type Ending, type FirstSignal, Follower } from './Follower.ts'
import { HELP } from './help.ts'
import { type Command, FROM_STDIN, type Invocation, parseInvocation, type View } from './invocation.ts'
import { JsonReporter } from './JsonReporter.ts'
import { QuietReporter } from './QuietReporter.ts'
import type { Reporter } from './Reporter.ts'
import { Screen } from './Screen.ts'
import type { Session } from './Session.ts'
import { Signals } from './Signals.ts'
import { openSink } from './Sink.ts'
import { TextReporter } from './TextReporter.ts'
import { UsageError } from './UsageError.ts'

const LEFT: Ending = { exitCode: EXIT.left, left: true }

/** What the program is given by its process. */
export interface Surroundings {
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: Readable
  readonly stdout: Writable
  readonly stderr: Writable
  readonly signals: NodeJS.EventEmitter
  /** Ends the process at once; what is not written yet is lost. */
  readonly exit: (code: number) => void
}

/** Resolves with the exit code when everything was written that is waited for. Never rejects. */
export async function main(surroundings: Surroundings): Promise<number> {
  const { argv, env, stdin, signals: source, exit } = surroundings
  const out = openSink(surroundings.stdout)
  const err = openSink(surroundings.stderr)
  const signals = new Signals(source, () => exit(EXIT.left))
  const unlisten = signals.listen()
  let screen = new Screen(out, err)
  const onResumed = (): void => screen.resume()
  source.on('SIGCONT', onResumed)
  try {
    const { command, view, look, onInterrupt, ...access } = parseInvocation(argv, env)
    screen = new Screen(out, err, look)
    if (command.kind === 'help') {
      void out.write(HELP)
      await screen.flush()
      return EXIT.succeeded
    }
    await using client = openClient(access)
    const session = { client, screen, view, signals, stdin, onInterrupt }
    // Nobody reads what we write (`| head`): that is leaving, and closing the client tells the server so.
    const ending = await Promise.race([perform(session, command), screen.broken.then(() => LEFT)])
    if (!ending.left) await screen.flush()
    return ending.exitCode
  } catch (error) {
    screen.line(`tether: ${describe(error)}`)
    await screen.flush()
    return exitCodeOfError(error)
  } finally {
    source.off('SIGCONT', onResumed)
    unlisten()
  }
}

function openClient({ server, token }: Pick<Invocation, 'server' | 'token'>): TetherClient {
  try {
    return new TetherClient({ ...(server === undefined ? {} : { server }), ...(token === undefined ? {} : { token }) })
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(error.message, { cause: error })
    throw error
  }
}

async function perform(session: Session, command: Exclude<Command, { kind: 'help' }>): Promise<Ending> {
  switch (command.kind) {
    case 'prompt': {
      const prompt = command.prompt === FROM_STDIN ? await readPrompt(session.stdin) : command.prompt
      return await run(session, { task: 'agent', input: { prompt }, ...command.terms })
    }
    case 'run':
      return await run(session, { task: command.task, input: command.input, ...command.terms })
    case 'attach': {
      const { id, hold } = command
      return await follow(session, id, session.onInterrupt ?? (hold ? 'cancel' : 'leave'), (options) =>
        session.client.attach(id, { hold, ...options }),
      )
    }
    default:
      return { exitCode: await answerCommand(session, command), left: false }
  }
}

/** The id is minted here, so that a Ctrl+C that is faster than the server's answer knows what to cancel. */
async function run(session: Session, spec: JobSpec): Promise<Ending> {
  const { client, onInterrupt } = session
  const jobId = mintJobId()
  try {
    return await follow(session, jobId, onInterrupt ?? 'cancel', (options) =>
      client.stream({ ...spec, jobId }, options),
    )
  } catch (error) {
    if (!(error instanceof TetherApiError) || error.code !== 'TETHER_TASK_NOT_FOUND') throw error
    throw await noSuchTask(client, spec.task)
  }
}

async function follow(
  session: Session,
  jobId: string,
  firstSignal: FirstSignal,
  open: (options: StreamOptions) => ReturnType<TetherClient['stream']>,
): Promise<Ending> {
  const { client, screen, view, signals } = session
  const report = (children: ChildStreams): Reporter => reporterFor(view, screen, children)
  return await new Follower({ client, screen, signals, jobId, firstSignal, open, report }).follow()
}

function reporterFor(view: View, screen: Screen, children: ChildStreams): Reporter {
  if (view.kind === 'json') return new JsonReporter(screen, view.withChildren ? children : undefined)
  return view.kind === 'quiet' ? new QuietReporter(screen) : new TextReporter(screen, children, view)
}

async function noSuchTask(client: TetherClient, task: string): Promise<UsageError> {
  const names = (await client.tasks()).map(({ name }) => name)
  const example = names.includes('command') ? `, for example: --task command --input '{"command":"date"}'` : ''
  const known = names.length === 0 ? 'no task at all' : `${names.join(', ')} (--task NAME --input JSON)`
  return new UsageError(`this server has no task ${JSON.stringify(task)}; it has ${known}${example}`)
}

async function readPrompt(stdin: Readable): Promise<string> {
  const prompt = await text(stdin)
  if (prompt.trim() === '') throw new UsageError('the prompt on standard input must not be empty')
  return prompt
}

function describe(error: unknown): string {
  if (error instanceof UsageError) return `${plainLine(error.message)} (--help says more)`
  if (error instanceof StreamCut) {
    const hint = error.jobId === undefined ? '' : `; "show ${error.jobId}" tells what became of it`
    return `the connection was lost: ${plainLine(error.message)}${hint}`
  }
  if (error instanceof TetherApiError) {
    const retry = error.retryAfterSeconds === undefined ? '' : `, try again in ${error.retryAfterSeconds} s`
    return `refused: ${plainLine(error.message)} (${plainLine(error.code)}${retry})`
  }
  return plainLine(error instanceof Error ? error.message : String(error))
}
