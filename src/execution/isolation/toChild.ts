import type { ModelSettings } from '../../config.ts'
import type { CancellationRequest } from '../../job/cancellation.ts'
import type { Failure } from '../../job/failure.ts'
import type { Json } from '../../job/json.ts'
import type { JobKey, JobRef } from '../../job/key.ts'
import type { ExecutionLimits } from '../Execution.ts'
import type { ContextResources } from '../JobContext.ts'

/** Comes first and once: which function to call, with what. */
export interface RunMessage {
  readonly type: 'run'
  readonly module: string
  readonly task: string
  readonly input: Json
  readonly key: JobKey
  readonly ref: JobRef
  readonly attempt: number
  readonly metadata: Readonly<Record<string, Json>>
  readonly limits: ExecutionLimits
  readonly folders: Pick<ContextResources, 'commandEnv' | 'defaultCwd' | 'tmpRoot' | 'workspaceRoot'>
  readonly workspaceKey: JobKey
  readonly models: ModelSettings
}

/** How a child job ended. `raised`: it was because its parent is to end, which the parent's next boundary says better. */
export type ChildJobEnd =
  | { readonly kind: 'returned'; readonly result: Json }
  | { readonly kind: 'threw'; readonly failure: Failure }
  | { readonly kind: 'raised' }

/** What came of a call of `ctx.store`. A value that is not there is left out. */
export type ValueAnswer =
  | { readonly kind: 'value'; readonly value?: Json }
  | { readonly kind: 'keys'; readonly keys: readonly string[] }
  | { readonly kind: 'threw'; readonly failure: Failure }

/** The monotonic clock is each process's own. */
export type RelayedRequest = Omit<CancellationRequest, 'requestedAtMs'>

/** What the server tells a task's process. */
export type ToChild =
  | RunMessage
  | { readonly type: 'request'; readonly request: RelayedRequest }
  /** The log has room again, and has taken all that was sent up to the batch that asked. */
  | { readonly type: 'room' }
  | { readonly type: 'childJobEnded'; readonly id: number; readonly end: ChildJobEnd }
  | { readonly type: 'valueAnswer'; readonly id: number; readonly answer: ValueAnswer }

/** The server is trusted by the process that it started; only the other direction is checked. */
export function parseToChild(message: unknown): ToChild {
  return message as ToChild
}
