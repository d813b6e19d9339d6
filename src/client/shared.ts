// The types name `Disposable`, which programs that are built for before ES2026 do not know.
/// <reference lib="esnext.disposable" preserve="true" />

/** What both ways into the client have besides `TetherClient`. */
export type { Cancellation, Cause, Phase } from '../job/cancellation.ts'
export type { GapEvent, JobEvent, OutputChannel } from '../job/event.ts'
export type { Failure } from '../job/failure.ts'
export type { Json } from '../job/json.ts'
export type { JobPolicy, OnDisconnect } from '../job/policy.ts'
export type { Receipt, Usage } from '../job/receipt.ts'
export type { JobStatus, TerminalStatus } from '../job/status.ts'
export type { JobView } from '../job/view.ts'
export type {
  AttachOptions,
  BaseClient,
  CancelOptions,
  ClientOptions,
  JobFilter,
  JobPage,
  StartOptions,
  StreamOptions,
  TaskView,
} from './BaseClient.ts'
export type { CancelAnswer } from './CancelAnswer.ts'
export {
  ConnectionLost,
  JobDetached,
  JobEnded,
  ServerUnreachable,
  StreamCut,
  type TerminalEvent,
  TetherApiError,
} from './error.ts'
export type { JobRun } from './JobRun.ts'
export type { JobSpec } from './JobSpec.ts'
export type { JobStream } from './JobStream.ts'
export { mintJobId } from './jobId.ts'
export type { Loss, ReconnectOptions, Recovery } from './Reconnect.ts'
