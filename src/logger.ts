/**
 * What writes the lines of the log: a pino logger is one, and so is the `log` of a Fastify app. Fields first, then what happened.
 */
export interface Logger {
  error(fields: object, message: string): void
  warn(fields: object, message: string): void
  info(fields: object, message: string): void
  debug(fields: object, message: string): void
  /** A logger whose lines bear these fields too. */
  child(fields: object): Logger
}
