import type { Readable, Writable } from 'node:stream'
import type { LanguageModelV4 } from '@ai-sdk/provider'
import type { Static, TSchema } from 'typebox'
import type { CancelToken } from '../cancellation/CancelToken.ts'
import type { OutputChannel } from '../job/event.ts'
import type { Json } from '../job/json.ts'
import type { Usage } from '../job/receipt.ts'

export { default as Type } from 'typebox'
export { type CancelToken, currentToken } from '../cancellation/CancelToken.ts'
export { JobStopped } from '../cancellation/JobStopped.ts'
export { TaskFailure } from '../job/failure.ts'

/** How a command is run. */
export interface ExecOptions {
  /** Default: the folder that the server was started in. */
  readonly cwd?: string
  /** Put over the basic environment (PATH, HOME, LANG and the like); the server's own settings are never handed on. */
  readonly env?: Readonly<Record<string, string>>
  /** Written to its standard input, which is then closed. Default: end of file at once. */
  readonly stdin?: string
  /** `stream` sends its output as the job's events (default); `collect` returns it, up to `maxCollectBytes`. */
  readonly output?: 'stream' | 'collect'
  /** Default 1 MiB for each of stdout and stderr; what is over is dropped and `truncated` says so. */
  readonly maxCollectBytes?: number
  /** What a stop does: `wait` lets it finish (default), `terminate` sends TERM to its tree once. */
  readonly onStop?: 'wait' | 'terminate'
  /** What becomes of processes that outlive the leader: ended with it (default), or kept until the job ends. */
  readonly background?: 'end' | 'keep'
}

export interface ExecResult {
  /** As the shell gives it: 128 + n where a signal ended a process inside a pid namespace. Null where `signal` is known. */
  readonly exitCode: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
  readonly truncated: boolean
}

/** How a process is started that is not waited for. */
export type SpawnOptions = Pick<ExecOptions, 'cwd' | 'env'> & {
  /** Whether its standard input is a pipe to write to; default: it reads end of file. */
  readonly stdin?: boolean
  /** What it holds back when the job is asked to stop: `end` ends it then; default `keep`: it lives until the job ends. */
  readonly onStop?: 'keep' | 'end'
}

/** A process tree of the job's that goes on beside its function, until `end` or the job's own end. */
export interface JobProcess {
  /** The leader's, as the server sees it. */
  readonly pid: number
  readonly stdin: Writable | null
  /** To be read from the start, or resumed where nobody wants it. */
  readonly stdout: Readable
  readonly stderr: Readable
  /** Settles when the leader has exited. Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number | null; readonly signal: string | null }>
  /** TERM, then KILL: ends the whole tree. Settles when it is gone, or was looked for in vain. Twice is once. Never rejects. */
  end(): Promise<{ readonly processes: number; readonly survivors: readonly { readonly pid: number }[] }>
}

/** Values that jobs of one task keep between their runs, by tenant and task. Each call is a boundary. */
export interface TaskValues {
  /** Undefined where there is none. @throws {JobStopped} */
  get(key: string): Promise<Json | undefined>
  /** @throws {TaskFailure} `TETHER_VALUE_INVALID` past 64 KiB of JSON, or for a key that is not 1 to 200 characters @throws {JobStopped} */
  put(key: string, value: Json): Promise<void>
  /** Harmless where there is none. @throws {JobStopped} */
  delete(key: string): Promise<void>
  /** Keys that begin with `prefix`, sorted, 1000 at the most after `after`. @throws {JobStopped} */
  list(options?: { readonly prefix?: string; readonly after?: string }): Promise<readonly string[]>
}

/** A tool that an agent may call. What it throws is told to the model, except where the job is to end. */
export interface AgentTool<S extends TSchema = TSchema> {
  /** `[a-zA-Z][a-zA-Z0-9_-]{0,63}`. */
  readonly name: string
  readonly description: string
  /** What `input` must be: an object's schema. What does not fit is told to the model, and the tool is not called. */
  readonly input: S
  /** Whether calls of this tool that follow each other in one answer may run at the same time. Default: one after the other. */
  readonly isParallel?: boolean
  /** Pass `ctx.signal` to what waits; a tool that does not settle is not waited for after a cancel, and the receipt says so. */
  run(ctx: TaskContext, input: Static<S>): Promise<string | ToolAnswer>
}

/** What a tool came to. */
export interface ToolAnswer {
  /** For the model. */
  readonly text: string
  /** For people, in one line; default: the first line of `text`. */
  readonly summary?: string
  /** Default: true. */
  readonly ok?: boolean
}

/** What the input of the task `agent` may have as its `maxSteps`; the author of another task may have set more. */
export const MAX_AGENT_STEPS = 10_000

export interface AgentOptions {
  /** The last user message. */
  readonly prompt: string
  /** As the setting `MODEL`; default: that setting's. */
  readonly model?: string
  /** What the model is told about its work first; default: that it works in this job's workspace with these tools. */
  readonly system?: string
  /** Default: all that are built in: terminal, files, browser where there is one, sub-agents. */
  readonly tools?: readonly AgentTool[]
  /** Model calls at the most, and for each of its sub-agents the same; default 50. */
  readonly maxSteps?: number
  /** Tokens in and out of all calls at the most; looked at before each call. Default: no limit. */
  readonly maxTokens?: number
}

export interface AgentResult {
  /** The model's last words. */
  readonly text: string
  readonly steps: number
  readonly usage: Usage
}

/** What a task's function works with. Everything that waits here ends at once when the job is cancelled. */
export interface TaskContext {
  readonly jobId: string
  readonly attempt: number
  readonly metadata: Readonly<Record<string, Json>>
  /** Fires when the job is cancelled; its `reason` is a `JobStopped` with `why`, `reason` and `by`. */
  readonly signal: AbortSignal
  /** Fires when the job is stopped or cancelled, whichever comes first; the same `reason`. */
  readonly stopSignal: AbortSignal
  /** The same, with both signals, for code that is handed no context; `currentToken()` finds it. */
  readonly token: CancelToken
  /** Sends text. Await it: it settles when the log has room. @throws {TaskFailure} `TETHER_OUTPUT_OVERRUN` past 16 MiB. */
  output(text: string, channel?: OutputChannel): Promise<void>
  /** Sends an event of the task's own. @throws {TaskFailure} `TETHER_EVENT_TOO_LARGE` past 64 KiB. */
  data(name: string, value: Json): Promise<void>
  progress(current: number, options?: { readonly total?: number; readonly message?: string }): Promise<void>
  /** Announces a file of the workspace. @throws {TaskFailure} `TETHER_INVALID_ARTIFACT` where it is not a file in there. */
  artifact(path: string, options?: { readonly name?: string; readonly mediaType?: string }): Promise<void>
  /** A boundary. @throws {JobStopped} where the job was asked to stop or was cancelled. */
  checkpoint(): void
  /** Waits. A boundary, and wakes at once on a stop. @throws {JobStopped} */
  sleep(ms: number): Promise<void>
  /**
   * Runs a shell line, or a program with its arguments, inside the job's containment. A boundary. Settles when the process has
   * exited and what it left was ended; never leaves a process behind. A command that fails is a result, not an error: look at
   * `exitCode`.
   * @throws {TaskFailure} `TETHER_SPAWN_FAILED` @throws {JobStopped}
   */
  exec(command: string | readonly [string, ...string[]], options?: ExecOptions): Promise<ExecResult>
  /**
   * Starts a program, or a shell line, inside the job's containment, and does not wait for it. A boundary. It lives until `end` or
   * the job's end. @throws {TaskFailure} `TETHER_SPAWN_FAILED` @throws {JobStopped}
   */
  spawn(command: string | readonly [string, ...string[]], options?: SpawnOptions): Promise<JobProcess>
  /**
   * The platform's `fetch`, over connections of the job's own. A boundary. They are closed when the job is cancelled or has ended,
   * in every phase, whether or not a signal was passed. @throws {JobStopped}
   */
  fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>
  /**
   * A language model, named as the setting `MODEL` does; default: that setting's. A boundary, and each of its calls is one. It is
   * a `LanguageModelV4`, so it fits whatever takes those; `agent` has a loop over it and tools.
   * @throws {TaskFailure} `TETHER_MODEL_UNAVAILABLE`, `TETHER_MODEL_UNAUTHORIZED`, `TETHER_MODEL_FAILED` @throws {JobStopped}
   */
  model(name?: string): Promise<LanguageModelV4>
  /**
   * Lets a model work with tools until it has no more calls. Text goes out as the job's output, calls of models and tools as its
   * events; each is a boundary. Settles with the model's last words.
   * @throws {TaskFailure} as `model`, and `TETHER_MODEL_TRUNCATED`, `TETHER_MAX_STEPS`, `TETHER_MAX_TOKENS`,
   * `TETHER_CONVERSATION_TOO_LARGE` @throws {JobStopped}
   */
  agent(options: AgentOptions): Promise<AgentResult>
  /**
   * Runs `work` as a tool: a boundary, with its own phase and events. Where the job is cancelled meanwhile it rejects at once; `work`
   * counts as something that the job holds until it settles. @throws {JobStopped}, and whatever `work` throws
   */
  tool(name: string, input: Json, work: () => Promise<string | ToolAnswer>): Promise<ToolAnswer>
  /** What jobs of this task keep between their runs. */
  readonly store: TaskValues
  /** Runs `cleanup` when the job ends, however it ends, last come first served, shielded, with a deadline. */
  defer(cleanup: () => void | Promise<void>): void
  /** Disposes of `resource` when the job ends, as `defer` does. Returns it. */
  use<T extends Disposable | AsyncDisposable>(resource: T): T
  /** Runs `work` with this job's boundaries silent. */
  shield<T>(work: () => T): T
  /** A new empty folder of the job's own, removed when it ends. */
  tmp(): Promise<string>
  /** The folder whose files stay with the job after its end; made when first asked for. */
  workspace(): Promise<string>
  /**
   * Runs another task as a child job, in this job's slot. A boundary. Settles with its result; a child that does not succeed
   * rejects with `TaskFailure` `TETHER_CHILD_FAILED`. @throws {TaskFailure} `TETHER_TOO_MANY_CHILDREN` @throws {JobStopped}
   */
  run(task: string, input: Json, options?: RunOptions): Promise<Json>
}

export interface RunOptions {
  readonly timeoutMs?: number
  /** Whether the child works in this job's workspace; default: in one of its own. */
  readonly sharesWorkspace?: boolean
}

/** A kind of work, as its author describes it. */
export interface TaskDefinition<S extends TSchema = TSchema> {
  /** `[a-z][a-z0-9_-]{0,63}`. */
  readonly name: string
  readonly description?: string
  /** What `input` must be. Fields marked `secret` (see `secret()`) are shown redacted and erased once the job is claimed. */
  readonly input: S
  /** How many jobs of this task may run at once in this process. Default: as many as `CONCURRENCY` lets. */
  readonly concurrencyLimit?: number
  /**
   * Whether a job of this task that runs when its server dies is run again, from the start: at most three times in all, and not
   * where it was asked to end. Default: it ends `interrupted`. Not for a task with secrets, which are erased once it is claimed.
   */
  readonly retryOnInterrupt?: boolean
  /**
   * `process`: `run` is called in a Node process of its own inside the job's containment, so that whatever it does (`for(;;)`,
   * `execSync`, a crash) ends when the job is to end, and reaches nobody else. Functions cannot be sent, so that process
   * imports `module` and looks for the export with this task's name. What it prints becomes the job's output; it has the
   * environment of a command, not the server's. Everything else is as it is in process.
   */
  readonly isolate?: 'process'
  /** The URL of the module that exports this task: `import.meta.url`. Isolated tasks need it; those of TASKS_DIR have it. */
  readonly module?: string
  run(ctx: TaskContext, input: Static<S>): Promise<Json | undefined | void>
}

/** Names what a module of `TASKS_DIR` exports. Returns it unchanged; the types of `run` follow from `input`. */
export function defineTask<const S extends TSchema>(definition: TaskDefinition<S>): TaskDefinition<S> {
  return definition
}

/** Returns it unchanged; the types of `run` follow from `input`. */
export function defineTool<const S extends TSchema>(tool: AgentTool<S>): AgentTool<S> {
  return tool
}

/** How a secret field is shown: replaced, each value of an object replaced, or by its length. */
export type SecretForm = 'redacted' | 'values' | 'length'

/** Marks a schema's values as secret: `Type.String(secret())`. */
export function secret(form: SecretForm = 'redacted'): { readonly secret: SecretForm } {
  return { secret: form }
}
