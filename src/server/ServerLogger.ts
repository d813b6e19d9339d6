/** What the server says of itself: only what an operator has to look at, or may want to know. A pino logger is one. */
export interface ServerLogger {
  error(fields: object, message: string): void
  warn(fields: object, message: string): void
  info(fields: object, message: string): void
}
