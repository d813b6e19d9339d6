/** What a program that embeds Tether imports. */
export { type Config, ConfigError, readConfig } from './config.ts'
export {
  defineTask,
  type ExecOptions,
  type ExecResult,
  JobStopped,
  type SecretForm,
  secret,
  type TaskContext,
  type TaskDefinition,
  TaskFailure,
  Type,
} from './execution/task.ts'
export type { Logger } from './logger.ts'
export { type TetherPluginOptions, tether } from './plugin.ts'
export type { Authenticate, Identity, Scope } from './server/access/Identity.ts'
export { openTether, type Tether, type TetherOptions } from './tether.ts'
