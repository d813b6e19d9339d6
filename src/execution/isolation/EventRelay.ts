import type { Duplex } from 'node:stream'
import type { Clock } from '../../clock.ts'
import { assertSize, BACKPRESSURE_UNITS, OVERRUN_UNITS, overrun } from '../../eventlog/emitLimits.ts'
import { splitText } from '../../eventlog/splitText.ts'
import type { OutputChannel, TaskEvent } from '../../job/event.ts'
import { writeJsonLine } from './jsonLines.ts'

/** A batch of more than this goes out at once (UTF-16 units): a loop that only awaits its outputs never ends its turn. */
const BATCH_UNITS = 64 * 1024

/** The log is asked for room before anybody has to wait, so that its answer may come in time. */
const ASK_UNITS = BACKPRESSURE_UNITS / 2

const ACCEPTED = Promise.resolve()

/**
 * Stands in for the job's log in the task's process: the same limits, the same waiting, the events sent on in batches. The
 * first of a turn goes at once, so that it is seen even where the function then blocks its process; the rest at the turn's end.
 */
export class EventRelay {
  readonly #channel: Duplex
  readonly #clock: Clock
  #batch: string[] = []
  #batchUnits = 0
  #textChannel: OutputChannel = 'text'
  #text = ''
  /** What the log is not known to have taken, in UTF-16 units of text and JSON. */
  #unloggedUnits = 0
  /** Of those, what the log was asked about: it has room again when it answers, and has taken them. */
  #askedUnits = 0
  #roomWaiters: PromiseWithResolvers<void> | undefined
  #turn: Promise<void> | undefined
  #isFenced = false

  constructor(channel: Duplex, clock: Clock) {
    this.#channel = channel
    this.#clock = clock
  }

  /** As the log's own: see `JobLog.emit`. @throws {TaskFailure} `TETHER_OUTPUT_OVERRUN`, `TETHER_EVENT_TOO_LARGE` */
  emit(event: TaskEvent): Promise<void> {
    if (this.#isFenced) return this.#endOfTurn()
    if (event.type === 'output') this.#pushText(event.channel, event.text)
    else this.#pushEvent(event)
    if (this.#turn === undefined || this.#batchUnits > BATCH_UNITS) this.flush()
    void this.#endOfTurn()
    this.#askWhereMuchWaits()
    if (this.#unloggedUnits <= BACKPRESSURE_UNITS) return ACCEPTED
    return (this.#roomWaiters ??= Promise.withResolvers<void>()).promise
  }

  /** The job is being cancelled: from here on nothing is sent, and nobody waits for room. */
  fence(): void {
    this.#isFenced = true
    this.#batch = []
    this.#text = ''
    this.#letWaitersGo()
  }

  /** The answer to a batch that asked for room. */
  makeRoom(): void {
    this.#unloggedUnits -= this.#askedUnits
    this.#askedUnits = 0
    if (this.#unloggedUnits <= BACKPRESSURE_UNITS) this.#letWaitersGo()
    this.#askWhereMuchWaits()
  }

  /** Sends what waits. */
  flush(): void {
    this.#sealText()
    if (this.#batch.length > 0) this.#send(false)
  }

  #pushText(channel: OutputChannel, text: string): void {
    this.#count(text.length)
    if (channel !== this.#textChannel) this.#sealText()
    this.#textChannel = channel
    // One message has one piece at most, however long the text.
    for (const piece of splitText(text, BATCH_UNITS)) {
      if (this.#text.length + piece.length > BATCH_UNITS) this.flush()
      this.#text += piece
    }
    this.#batchUnits += text.length
  }

  #pushEvent(event: Exclude<TaskEvent, { type: 'output' }>): void {
    const json = JSON.stringify(event)
    assertSize(event.type, json)
    this.#count(json.length)
    this.#sealText()
    this.#batch.push(json)
    this.#batchUnits += json.length
  }

  #count(units: number): void {
    if (this.#unloggedUnits + units > OVERRUN_UNITS) throw overrun()
    this.#unloggedUnits += units
  }

  #sealText(): void {
    if (this.#text === '') return
    this.#batch.push(JSON.stringify({ type: 'output', channel: this.#textChannel, text: this.#text }))
    this.#text = ''
  }

  #askWhereMuchWaits(): void {
    if (this.#askedUnits > 0 || this.#unloggedUnits <= ASK_UNITS) return
    this.#askedUnits = this.#unloggedUnits
    this.#sealText()
    this.#send(true)
  }

  #send(asksRoom: boolean): void {
    writeJsonLine(this.#channel, `{"type":"events","asksRoom":${asksRoom},"events":[${this.#batch.join(',')}]}`)
    this.#batch = []
    this.#batchUnits = 0
  }

  #letWaitersGo(): void {
    this.#roomWaiters?.resolve()
    this.#roomWaiters = undefined
  }

  #endOfTurn(): Promise<void> {
    this.#turn ??= new Promise((resolve) => {
      this.#clock.schedule(0, () => {
        this.#turn = undefined
        this.flush()
        resolve()
      })
    })
    return this.#turn
  }
}
