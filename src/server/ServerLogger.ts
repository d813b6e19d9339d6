/** What the server says of itself: only what an operator has to look at. A pino logger is one. */
export interface ServerLogger {
  error(fields: object, message: string): void
  warn(fields: object, message: string): void
}
