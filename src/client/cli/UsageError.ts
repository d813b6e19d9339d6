/** The command line asks for something that cannot be: one line says what, and the exit code is 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}
