import type { Duplex } from 'node:stream'
import type { JobScope } from '../../cancellation/JobScope.ts'
import { TaskFailure, taskFailureOf } from '../../job/failure.ts'
import type { Json } from '../../job/json.ts'
import { unreachable } from '../../job/unreachable.ts'
import type { ChildRunner } from '../ExecutionOrder.ts'
import type { RunOptions } from '../task.ts'
import type { ChildJob } from './fromChild.ts'
import { MAX_LINE_BYTES, writeJsonLine } from './jsonLines.ts'
import { PendingAnswers } from './PendingAnswers.ts'
import type { ChildJobEnd } from './toChild.ts'

/** Child jobs as a task's process sees them: the server runs them, and holds them in the job's scope over there. */
export class RemoteChildJobs implements ChildRunner {
  readonly #channel: Duplex
  readonly #ends = new PendingAnswers<ChildJobEnd>()

  constructor(channel: Duplex) {
    this.#channel = channel
  }

  async run(scope: JobScope, task: string, input: Json, options: RunOptions): Promise<Json> {
    const { timeoutMs, sharesWorkspace = false } = options
    const id = this.#ends.newId()
    const { isShielded } = scope
    const call: ChildJob = {
      type: 'childJob',
      id,
      task,
      input,
      isShielded,
      sharesWorkspace,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    }
    const json = JSON.stringify(call)
    if (Buffer.byteLength(json) > MAX_LINE_BYTES) {
      throw new TaskFailure(
        'TETHER_INVALID_REQUEST',
        `the input of a child job may have ${MAX_LINE_BYTES} bytes of JSON`,
      )
    }
    const end = this.#ends.to(id)
    writeJsonLine(this.#channel, json)
    return resultOf(await end, scope)
  }

  settle(id: number, end: ChildJobEnd): void {
    this.#ends.settle(id, end)
  }
}

function resultOf(end: ChildJobEnd, scope: JobScope): Json {
  switch (end.kind) {
    case 'returned':
      return end.result
    case 'threw':
      throw taskFailureOf(end.failure)
    case 'raised':
      // The request went out before this answer, so it is known here.
      scope.checkpoint()
      throw new Error('a child job was asked to end together with its parent, which was not')
    default:
      return unreachable(end)
  }
}
