/** Why a job `failed` or was `interrupted`. `code` is API, `message` prose. */
export interface Failure {
  readonly code: string
  readonly message: string
  readonly retryable: boolean
  readonly exitCode?: number
  readonly signal?: string
}

/** An error that a task throws to fail with a code of its own. Any other error fails the job with `TETHER_TASK_FAILED`. */
export class TaskFailure extends Error {
  override readonly name = 'TaskFailure'
  readonly code: string
  readonly retryable: boolean
  readonly exitCode: number | undefined
  readonly signal: string | undefined

  constructor(
    code: string,
    message: string,
    options: { retryable?: boolean; exitCode?: number | undefined; signal?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.retryable = options.retryable ?? false
    this.exitCode = options.exitCode
    this.signal = options.signal
  }
}

/** A failure's message may hold a command's whole output; what the record keeps is bounded (characters). */
const MAX_MESSAGE_LENGTH = 4096

/** Whatever a task's function threw, as the failure that its record and its last event bear. */
export function failureOf(error: unknown): Failure {
  if (error instanceof TaskFailure) {
    return {
      code: error.code,
      message: error.message.slice(0, MAX_MESSAGE_LENGTH),
      retryable: error.retryable,
      ...(error.exitCode === undefined ? {} : { exitCode: error.exitCode }),
      ...(error.signal === undefined ? {} : { signal: error.signal }),
    }
  }
  const message = error instanceof Error ? `${error.name}: ${error.message}` : `the task threw ${describe(error)}`
  return { code: 'TETHER_TASK_FAILED', message: message.slice(0, MAX_MESSAGE_LENGTH), retryable: false }
}

function describe(value: unknown): string {
  // A thrown value may be anything, also one whose conversion to text throws.
  try {
    return typeof value === 'string' ? JSON.stringify(value) : String(value)
  } catch {
    return `a ${typeof value}`
  }
}
