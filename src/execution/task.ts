import type { Static, TSchema } from 'typebox'
import type { OutputChannel } from '../job/event.ts'
import type { Json } from '../job/json.ts'

export { default as Type } from 'typebox'
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

/** What a task's function works with. Everything that waits here ends at once when the job is cancelled. */
export interface TaskContext {
  readonly jobId: string
  readonly attempt: number
  readonly metadata: Readonly<Record<string, Json>>
  /** Fires when the job is cancelled; its `reason` is a `JobStopped` with `why`, `reason` and `by`. */
  readonly signal: AbortSignal
  /** Fires when the job is stopped or cancelled, whichever comes first; the same `reason`. */
  readonly stopSignal: AbortSignal
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
  run(task: string, input: Json, options?: { readonly timeoutMs?: number }): Promise<Json>
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

/** How a secret field is shown: replaced, each value of an object replaced, or by its length. */
export type SecretForm = 'redacted' | 'values' | 'length'

/** Marks a schema's values as secret: `Type.String(secret())`. */
export function secret(form: SecretForm = 'redacted'): { readonly secret: SecretForm } {
  return { secret: form }
}
