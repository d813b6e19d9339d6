import { flushCompileCache } from 'node:module'
import type { Duplex } from 'node:stream'
import type { Clock } from '../../clock.ts'
import { messageOf } from '../../job/messageOf.ts'
import { unreachable } from '../../job/unreachable.ts'
import { ModelProviders } from '../../resources/model/ModelProviders.ts'
import type { Containment } from '../../resources/processes/Containment.ts'
import { Execution, type ExecutionEnd, type ExecutionReport } from '../Execution.ts'
import { JobContext } from '../JobContext.ts'
import { SpawnGate } from '../SpawnGate.ts'
import { EventRelay } from './EventRelay.ts'
import type { FromChild, Outcome } from './fromChild.ts'
import { importTask } from './importTask.ts'
import { writeLine } from './jsonLines.ts'
import { RemoteChildJobs } from './RemoteChildJobs.ts'
import { RemoteValues } from './RemoteValues.ts'
import type { RunMessage, ToChild } from './toChild.ts'

export interface TaskRunOptions {
  readonly clock: Clock
  readonly channel: Duplex
  /** What holds the commands of the task, inside of what holds this process. */
  readonly containment: Containment
}

/** One run of a task's function in its own process: the execution and the context are the same as in process. */
export class TaskRun {
  readonly #message: RunMessage
  readonly #clock: Clock
  readonly #channel: Duplex
  readonly #containment: Containment
  readonly #relay: EventRelay
  readonly #children: RemoteChildJobs
  readonly #values: RemoteValues
  readonly #execution: Execution

  constructor(message: RunMessage, { clock, channel, containment }: TaskRunOptions) {
    this.#message = message
    this.#clock = clock
    this.#channel = channel
    this.#containment = containment
    this.#relay = new EventRelay(channel, clock)
    this.#children = new RemoteChildJobs(channel)
    this.#values = new RemoteValues(channel)
    this.#execution = new Execution({ clock, containment, limits: message.limits, observer: this.#observer() })
  }

  /** Settles when the function has settled, or not in time after a cancel, and the server was told. Never rejects. */
  async run(): Promise<void> {
    const { module, task: name, input, folders, models, ...order } = this.#message
    const context = new JobContext(
      { ...order, log: this.#relay, children: this.#children, values: this.#values, observer: this.#observer() },
      this.#execution,
      {
        ...folders,
        clock: this.#clock,
        containment: this.#containment,
        spawnGate: new SpawnGate(),
        models: new ModelProviders(models),
      },
    )
    const report = await this.#execution.run(async () => {
      const task = await importTask(module, name)
      // It may have been asked to end meanwhile: then the function is not called.
      this.#execution.scope.checkpoint()
      // For the next process that loads the module; written in the next turn, since somebody waits for the function.
      setImmediate(flushCompileCache)
      return task.run(context, input)
    })
    this.flush()
    this.#send(outcomeOf(report))
  }

  /** Hands over what the server says. */
  receive(message: Exclude<ToChild, RunMessage>): void {
    switch (message.type) {
      case 'request':
        if (message.request.kind === 'cancel') this.#relay.fence()
        this.#execution.request({ ...message.request, requestedAtMs: this.#clock.monotonicMs() })
        return
      case 'room':
        this.#relay.makeRoom()
        return
      case 'childJobEnded':
        this.#children.settle(message.id, message.end)
        return
      case 'valueAnswer':
        this.#values.settle(message.id, message.answer)
        return
      default:
        unreachable(message)
    }
  }

  /** Sends the events that wait. */
  flush(): void {
    this.#relay.flush()
  }

  #observer() {
    return {
      onEvent: () => undefined,
      onAborted: () => undefined,
      onReleaseFailed: (kind: string, error: unknown) => {
        this.#send({ type: 'notReleased', kind, message: messageOf(error) })
      },
    }
  }

  #send(message: FromChild): void {
    writeLine(this.#channel, message)
  }
}

function outcomeOf({ end, receipt }: ExecutionReport): Outcome {
  // Processes that are left here end with this one, and are looked for from outside.
  const isIncomplete = end.kind !== 'abandoned' && !receipt.confirmed && receipt.survivors.length === 0
  const used = receipt.usage === undefined ? {} : { usage: receipt.usage }
  return { type: 'outcome', end: endOf(end), released: receipt.released, isIncomplete, ...used }
}

function endOf(end: ExecutionEnd): Outcome['end'] {
  switch (end.kind) {
    case 'returned':
      return { kind: 'returned', result: end.result }
    case 'threw':
      return { kind: 'threw', failure: end.failure }
    case 'raised':
    case 'never_called':
      return { kind: 'raised' }
    case 'abandoned':
      return { kind: 'abandoned' }
    default:
      return unreachable(end)
  }
}
