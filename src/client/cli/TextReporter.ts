import type { JobEvent } from '../../job/event.ts'
import { ChildPrinter } from './ChildPrinter.ts'
import type { ChildStreams } from './ChildStreams.ts'
import { JobPrinter } from './JobPrinter.ts'
import { endWord, type Outcome } from './outcome.ts'
import type { Reporter } from './Reporter.ts'
import type { Run, TextDetail } from './Run.ts'
import type { Screen } from './Screen.ts'
import { ServerClock } from './ServerClock.ts'
import { UsageTally } from './UsageTally.ts'
import { OwnVoice } from './Voice.ts'

/** The job's text on stdout; on stderr a line for each tool, what children say and do, and in the end what it all used. */
export class TextReporter implements Reporter {
  readonly #run: Run
  readonly #printer: JobPrinter

  constructor(screen: Screen, streams: ChildStreams, detail: TextDetail) {
    this.#run = { screen, streams, detail, tally: new UsageTally(), clock: new ServerClock(), children: new Set() }
    this.#printer = new JobPrinter(this.#run, new OwnVoice(screen), ChildPrinter.offspringOf(this.#run, ''))
  }

  async show(event: JobEvent): Promise<void> {
    this.#run.tally.note(event, { isOfChild: false })
    await this.#printer.show(event)
  }

  async showResult(): Promise<void> {}

  async finish({ status, receipt }: Outcome): Promise<void> {
    const { screen, streams, tally, children } = this.#run
    await this.#printer.endText()
    await streams.readAllToEnd()
    const word = endWord(status)
    for (const child of children) {
      tally.noteUnread()
      await child.settle(word)
    }
    await this.#printer.settle(word)
    const isToldByReceipt = receipt?.usage !== undefined && !tally.hasCallsOfChildren
    if (tally.hasCalls && !isToldByReceipt) screen.line(tally.line(this.#printer.tookMs))
  }

  leave(): void {
    for (const child of this.#run.children) child.settleNow('not finished')
    this.#printer.settleNow('not finished')
  }
}
