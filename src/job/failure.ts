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

/** What was told of as `failure` somewhere else, to be thrown here. */
export function taskFailureOf({ code, message, ...rest }: Failure): TaskFailure {
  return new TaskFailure(code, message, rest)
}

/** A failure's message may hold a command's whole output; what the record keeps is bounded (characters). */
const MAX_MESSAGE_LENGTH = 4096

/** Whatever a task's function threw, as the failure that its record and its last event bear. Never throws. */
export function failureOf(error: unknown): Failure {
  // A thrown value may be anything, also one whose getters, prototype or conversion to text throw.
  try {
    return error instanceof TaskFailure ? failureOfTask(error) : unforeseen(textOf(error))
  } catch {
    return unforeseen(`the task threw a value of type ${typeof error} that cannot be shown`)
  }
}

function failureOfTask(error: TaskFailure): Failure {
  return {
    code: error.code,
    message: bounded(error.message),
    retryable: error.retryable,
    ...(error.exitCode === undefined ? {} : { exitCode: error.exitCode }),
    ...(error.signal === undefined ? {} : { signal: error.signal }),
  }
}

function unforeseen(message: string): Failure {
  return { code: 'TETHER_TASK_FAILED', message: bounded(message), retryable: false }
}

function textOf(value: unknown): string {
  if (value instanceof Error) return `${value.name}: ${value.message}`
  return `the task threw ${typeof value === 'string' ? JSON.stringify(value) : String(value)}`
}

function bounded(message: string): string {
  // A cut between the halves of a surrogate pair would leave text that UTF-8 cannot carry.
  return message.slice(0, MAX_MESSAGE_LENGTH).toWellFormed()
}
