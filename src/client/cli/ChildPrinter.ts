import type { JobEvent } from '../../job/event.ts'
import { plainWords } from '../plainText.ts'
import { type ChildReader, isGone } from './ChildStreams.ts'
import { childLostLine } from './connectionLines.ts'
import { essenceOf } from './essence.ts'
import { JobPrinter, type Offspring } from './JobPrinter.ts'
import { endWord, type Outcome, outcomeIn, outcomeLine } from './outcome.ts'
import type { OpenChild, Run } from './Run.ts'
import { type ToolLine, toolLine } from './toolLine.ts'
import { ChildVoice, type Voice } from './Voice.ts'

/** Prints what one child job says and does, under a label of its own. */
export class ChildPrinter implements ChildReader, OpenChild {
  readonly #run: Run
  readonly #childId: string
  readonly #isOnItsOwn: boolean
  readonly #voice: Voice
  readonly #printer: JobPrinter
  #task = ''
  #essence = ''

  constructor(run: Run, childId: string, place: { readonly label: string; readonly isOnItsOwn: boolean }) {
    this.#run = run
    this.#childId = childId
    this.#isOnItsOwn = place.isOnItsOwn
    this.#voice = new ChildVoice(run.screen, place.label)
    this.#printer = new JobPrinter(run, this.#voice, ChildPrinter.offspringOf(run, `${place.label}.`))
    run.children.add(this)
  }

  /** The children of a job, labelled by their number; `prefix` says whose children they are, such as `1.` or nothing. */
  static offspringOf(run: Run, prefix: string): Offspring {
    let count = 0
    return {
      started(childId, { isOnItsOwn }) {
        run.streams.follow(childId, () => {
          count += 1
          return new ChildPrinter(run, childId, { label: `${prefix}${count}`, isOnItsOwn })
        })
      },
      finished: (childId) => run.streams.readToEnd(childId),
    }
  }

  async show(event: JobEvent): Promise<void> {
    if (!this.#run.children.has(this)) return
    this.#run.tally.note(event, { isOfChild: true })
    if (event.type === 'job.queued') {
      this.#task = plainWords(event.job.task)
      this.#essence = essenceOf(event.job.input ?? null)
      await this.#voice.rows([this.#row({ state: 'running' })])
      return
    }
    await this.#printer.show(event)
    const outcome = outcomeIn(event)
    if (outcome !== undefined) await this.#conclude(event, outcome)
  }

  onUnread(cause: unknown): void {
    if (!this.#run.children.has(this)) return
    this.#run.tally.noteUnread()
    this.settleNow('lost')
    // One that was deleted is not missed.
    if (isGone(cause)) return
    const { screen } = this.#run
    this.#voice.rowsNow(screen.paragraph(childLostLine(this.#childId, cause), this.#voice.columns))
  }

  async settle(word: string): Promise<void> {
    this.#run.children.delete(this)
    await this.#printer.settle(word)
  }

  settleNow(word: string): void {
    this.#run.children.delete(this)
    this.#printer.settleNow(word)
  }

  async #conclude(event: JobEvent, outcome: Outcome): Promise<void> {
    await this.settle(endWord(outcome.status))
    const { tookMs } = this.#printer
    if (outcome.status === 'succeeded') {
      if (this.#isOnItsOwn) await this.#voice.rows([this.#row({ state: 'succeeded', tookMs })])
    } else if (!isEndedByParent(event)) {
      await this.#voice.rows([this.#row({ state: 'failed', remark: outcomeLine(outcome), tookMs })])
    }
  }

  #row(line: Omit<ToolLine, 'tool' | 'essence'>): string {
    return toolLine({ ...line, tool: this.#task, essence: this.#essence }, this.#voice.columns, this.#run.screen.paint)
  }
}

/** Then the receipt of the parent counts it. */
function isEndedByParent(event: JobEvent): boolean {
  const request = 'cancellation' in event ? event.cancellation : 'stop' in event ? event.stop : undefined
  return request?.cause.startsWith('parent_') === true
}
