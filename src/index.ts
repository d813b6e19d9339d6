/** What a program that embeds Tether imports. */
export { type Config, ConfigError, readConfig } from './config.ts'
export type { BuiltInTask } from './core.ts'
export {
  type AgentOptions,
  type AgentResult,
  type AgentTool,
  type CancelToken,
  currentToken,
  defineTask,
  defineTool,
  type ExecOptions,
  type ExecResult,
  type JobProcess,
  JobStopped,
  type RunOptions,
  type SecretForm,
  type SpawnOptions,
  secret,
  type TaskContext,
  type TaskDefinition,
  TaskFailure,
  type TaskValues,
  type ToolAnswer,
  Type,
} from './execution/task.ts'
export type { Json } from './job/json.ts'
export type { Logger } from './logger.ts'
export { type TetherPluginOptions, tether } from './plugin.ts'
export type { Authenticate, Identity, Scope } from './server/access/Identity.ts'
export { openTether, type Tether, type TetherOptions } from './tether.ts'
