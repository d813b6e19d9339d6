import type { CancelKind, CancellationRequest, Cause } from '../job/cancellation.ts'

/**
 * What a boundary raises, and the `reason` of a job's signals, once the job was asked to end. It is an `AbortError`, which is
 * what libraries look for to tell an abort from a failure; why it happened is in the fields.
 */
export class JobStopped extends DOMException {
  readonly kind: CancelKind
  readonly why: Cause
  readonly reason: string
  readonly by: string | undefined

  constructor(request: CancellationRequest) {
    super(
      `the job was asked to ${request.kind} (${request.cause})${request.reason === '' ? '' : `: ${request.reason}`}`,
      'AbortError',
    )
    this.kind = request.kind
    this.why = request.cause
    this.reason = request.reason
    this.by = request.by
  }

  /** The same as `why`: the name under which errors carry what led to them. */
  override get cause(): Cause {
    return this.why
  }
}
