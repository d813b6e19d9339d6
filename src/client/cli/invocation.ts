import { parseArgs } from 'node:util'
import type { Json } from '../../job/json.ts'
import type { HoldTerms } from '../JobStream.ts'
import { isJobId, JOB_ID_FORM } from '../jobId.ts'
import type { TextDetail } from './Run.ts'
import type { Look } from './Screen.ts'
import { UsageError } from './UsageError.ts'

/** What the command line asks for. */
export type Command =
  | { readonly kind: 'help' }
  | { readonly kind: 'prompt'; readonly prompt: string | FromStdin; readonly terms: StartTerms }
  | { readonly kind: 'run'; readonly task: string; readonly input: Json; readonly terms: StartTerms }
  | { readonly kind: 'list' }
  | { readonly kind: 'tasks' }
  | { readonly kind: 'show'; readonly id: string }
  | { readonly kind: 'attach'; readonly id: string; readonly hold: boolean }
  | { readonly kind: 'cancel' | 'stop'; readonly id: string }

/** What the command line says of a start's policy; the rest is the server's. */
export type StartTerms = Partial<HoldTerms>

export type FromStdin = typeof FROM_STDIN
export const FROM_STDIN = Symbol('read it from standard input')

/** What is shown of a job: what it says and does, one event a line, or the result alone. */
export type View =
  | ({ readonly kind: 'text' } & TextDetail)
  | { readonly kind: 'json'; readonly withChildren: boolean }
  | { readonly kind: 'quiet' }

export type OnInterrupt = 'cancel' | 'stop' | 'detach'

export interface Invocation {
  readonly command: Command
  readonly server: string | undefined
  readonly token: string | undefined
  readonly view: View
  readonly look: Look
  /** Undefined where the command line does not say. */
  readonly onInterrupt: OnInterrupt | undefined
}

const OPTIONS = {
  stream: { type: 'boolean' },
  task: { type: 'string' },
  input: { type: 'string' },
  json: { type: 'boolean' },
  quiet: { type: 'boolean' },
  verbose: { type: 'boolean' },
  reasoning: { type: 'boolean' },
  children: { type: 'boolean' },
  hold: { type: 'boolean' },
  'on-interrupt': { type: 'string' },
  'grace-ms': { type: 'string' },
  'lease-ms': { type: 'string' },
  server: { type: 'string' },
  token: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const

/** Protocol, section 3: the longest grace, and the longest time of any other kind. */
const MAX_GRACE_MS = 3_600_000
const MAX_DELAY_MS = 2_147_483_647

type Values = ReturnType<typeof parse>['values']

/** @throws {UsageError} */
export function parseInvocation(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Invocation {
  const { values, positionals } = parse(argv)
  const view = parseView(values)
  return {
    command: values.help === true ? { kind: 'help' } : parseCommand(values, positionals),
    server: values.server ?? given(env['TETHER_URL']),
    token: parseToken(values.token ?? given(env['TETHER_TOKEN'])),
    view,
    look: lookOf(env),
    onInterrupt: parseOnInterrupt(values['on-interrupt']),
  }
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true, strict: true })
  } catch (error) {
    if (error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS_')) {
      throw new UsageError(error.message, { cause: error })
    }
    throw error
  }
}

function parseView({ json, quiet, verbose, reasoning, children }: Values): View {
  if (json === true && quiet === true) throw new UsageError('--json and --quiet exclude each other')
  const isText = json !== true && quiet !== true
  if (!isText && verbose === true) throw new UsageError('--verbose belongs to text, not to --json or --quiet')
  if (!isText && reasoning === true)
    throw new UsageError('--reasoning belongs to text: --json has it, --quiet has none')
  if (json !== true && children === true) throw new UsageError('--children belongs to --json: text shows them anyway')
  if (json === true) return { kind: 'json', withChildren: children === true }
  if (quiet === true) return { kind: 'quiet' }
  return { kind: 'text', isVerbose: verbose === true, showsReasoning: reasoning === true }
}

/** NO_COLOR: https://no-color.org, where an empty one counts as none. */
function lookOf(env: Readonly<Record<string, string | undefined>>): Look {
  const isDumb = env['TERM'] === 'dumb'
  return { isColoured: !isDumb && given(env['NO_COLOR']) === undefined, isLive: !isDumb }
}

function parseCommand(values: Values, positionals: readonly string[]): Command {
  const [first, ...rest] = positionals
  const command = namedCommand(values, first, rest)
  if (values.hold === true && command?.kind !== 'attach') throw new UsageError('--hold belongs to attach ID')
  if (values.input !== undefined && values.task === undefined) throw new UsageError('--input belongs to --task NAME')
  if (command === undefined) return parseStart(values, first, rest)
  for (const name of ['verbose', 'reasoning', 'children'] as const) {
    const isFollowing = command.kind === 'attach'
    if (values[name] === true && !isFollowing) throw new UsageError(`--${name} belongs to a start or to attach ID`)
  }
  for (const name of ['grace-ms', 'lease-ms'] as const) {
    if (values[name] !== undefined) throw new UsageError(`--${name} belongs to a start, not to ${command.kind}`)
  }
  if (values.task !== undefined) throw new UsageError(`--task takes neither a prompt nor a command, got ${first}`)
  return command
}

/** With `--stream`, a word is a prompt and never a command. */
function namedCommand(values: Values, first: string | undefined, rest: readonly string[]): Command | undefined {
  if (values.stream === true) return undefined
  switch (first) {
    case 'list':
    case 'tasks':
      if (rest.length > 0) throw new UsageError(`${first} takes nothing more, got ${JSON.stringify(rest.join(' '))}`)
      return { kind: first }
    case 'show':
    case 'cancel':
    case 'stop':
      return { kind: first, id: onlyId(first, rest) }
    case 'attach':
      return { kind: first, id: onlyId(first, rest), hold: values.hold === true }
    default:
      return undefined
  }
}

function onlyId(command: string, rest: readonly string[]): string {
  const [id] = rest
  if (id === undefined || rest.length > 1)
    throw new UsageError(`${command} takes the ID of one job, got ${rest.length}`)
  if (!isJobId(id)) throw new UsageError(`a job id must be ${JOB_ID_FORM}, got ${JSON.stringify(id)}`)
  return id
}

function parseStart(values: Values, first: string | undefined, rest: readonly string[]): Command {
  const terms = parseTerms(values)
  if (values.task !== undefined) {
    if (first !== undefined) throw new UsageError(`--task takes no prompt, got ${JSON.stringify(first)}`)
    if (values.task === '') throw new UsageError('--task must be the name of a task, got ""')
    return { kind: 'run', task: values.task, input: parseInput(values.input), terms }
  }
  if (first === undefined) throw new UsageError('there is nothing to do: give a prompt, --task NAME or a command')
  if (rest.length > 0) throw new UsageError(`a prompt is one argument, got ${rest.length + 1}: put it in quotes`)
  if (first.trim() === '') throw new UsageError('the prompt must not be empty')
  return { kind: 'prompt', prompt: first === '-' ? FROM_STDIN : first, terms }
}

function parseTerms(values: Values): StartTerms {
  const disconnectGraceMs = parseMs('grace-ms', values['grace-ms'], MAX_GRACE_MS)
  const leaseMs = parseMs('lease-ms', values['lease-ms'], MAX_DELAY_MS)
  return {
    ...(disconnectGraceMs === undefined ? {} : { disconnectGraceMs }),
    ...(leaseMs === undefined ? {} : { leaseMs }),
  }
}

function parseMs(name: string, text: string | undefined, max: number): number | undefined {
  if (text === undefined) return undefined
  if (/^\d{1,10}$/.test(text) && Number(text) <= max) return Number(text)
  throw new UsageError(`--${name} must be a whole number from 0 to ${max} (milliseconds), got ${JSON.stringify(text)}`)
}

function parseInput(text: string | undefined): Json {
  if (text === undefined) return {}
  try {
    return JSON.parse(text)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new UsageError(`--input must be JSON such as '{"command":"date"}', got ${text.slice(0, 80)}`, {
      cause: error,
    })
  }
}

function parseOnInterrupt(text: string | undefined): OnInterrupt | undefined {
  switch (text) {
    case undefined:
    case 'cancel':
    case 'stop':
    case 'detach':
      return text
    default:
      throw new UsageError(`--on-interrupt must be cancel, stop or detach, got ${JSON.stringify(text)}`)
  }
}

/** Anything else cannot stand in a header. The token itself is not shown. */
function parseToken(text: string | undefined): string | undefined {
  if (text !== undefined && !/^[!-~]+$/.test(text)) {
    throw new UsageError('the token must be visible ASCII characters, and is empty or has others')
  }
  return text
}

function given(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}
