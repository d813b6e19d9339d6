import type { JobEvent, OutputChannel } from '../../job/event.ts'
import type { Json } from '../../job/json.ts'
import { plainLine, plainWords } from '../plainText.ts'
import { durationText } from './duration.ts'
import { OutputLines } from './OutputLines.ts'
import type { Run } from './Run.ts'
import { ToolLines } from './ToolLines.ts'
import { toolLine } from './toolLine.ts'
import type { Voice } from './Voice.ts'

/** Who follows the children of a job. */
export interface Offspring {
  /** `isOnItsOwn`: no tool of the parent is open whose line would tell of the child's end. */
  started(childId: string, options: { readonly isOnItsOwn: boolean }): void
  /** Resolves when all that the child said is shown, or it is not waited for any longer. */
  finished(childId: string): Promise<void>
}

const REASONING_MARK = '┊ '

/** Prints what one job says and does, from its events. */
export class JobPrinter {
  readonly #run: Run
  readonly #voice: Voice
  readonly #offspring: Offspring
  readonly #tools: ToolLines
  readonly #reasoning = new OutputLines()
  /** Takes back what shows that a model is being waited for. */
  #hideModel = (): void => {}
  #startedAtMs: number | undefined
  #atMs = 0

  constructor(run: Run, voice: Voice, offspring: Offspring) {
    const { screen, clock, detail } = run
    this.#run = run
    this.#voice = voice
    this.#offspring = offspring
    this.#tools = new ToolLines({
      voice,
      clock,
      paint: screen.paint,
      isLive: screen.isLive,
      keepsOutput: screen.isTerminal,
      isVerbose: detail.isVerbose,
    })
  }

  /** From the job's start to the last that was heard of it. */
  get tookMs(): number {
    return this.#startedAtMs === undefined ? 0 : this.#atMs - this.#startedAtMs
  }

  /** Resolves when more may come. */
  async show(event: JobEvent): Promise<void> {
    this.#atMs = this.#run.clock.note(event)
    switch (event.type) {
      case 'output':
        return await this.#print(event.channel, event.text)
      case 'job.queued':
        return event.position > 0 ? await this.#say(`waiting in the queue at position ${event.position}`) : undefined
      case 'job.started':
        this.#startedAtMs ??= this.#atMs
        return
      case 'job.requeued':
        await this.settle('lost')
        return await this.#say(`started again (attempt ${event.attempt}): what was printed so far does not count`)
      case 'gap':
        return await this.#say(`events ${event.from} to ${event.to} are missing (${plainLine(event.reason)})`)
      case 'artifact':
        return await this.#say(`file ${plainLine(event.path)} (${event.bytes} bytes)`)
      case 'data':
        return event.name === 'model.retry' ? await this.#sayRetry(event.value) : undefined
      case 'model.started':
        return this.#awaitModel(event.model, this.#atMs)
      case 'model.finished':
        this.#hideModel()
        // Its text may go on: an agent ends the line of an answer that it goes on from.
        return await this.#endReasoning()
      case 'tool.started':
        await this.endText()
        return await this.#tools.start(event)
      case 'tool.finished':
        await this.endText()
        return await this.#tools.finish(event)
      case 'child.started':
        await this.endText()
        return this.#offspring.started(event.childId, { isOnItsOwn: !this.#tools.hasOpen })
      case 'child.finished':
        await this.endText()
        return await this.#offspring.finished(event.childId)
      default:
        // The rest, and what a newer server may send, is for --json.
        return
    }
  }

  /** What it said so far is not gone on with. */
  async endText(): Promise<void> {
    await this.#endReasoning()
    await this.#voice.endText()
  }

  /** Nothing more comes: ends its text, and its open tools as `word` says. */
  async settle(word: string): Promise<void> {
    this.#hideModel()
    await this.endText()
    await this.#voice.rows(this.#tools.settle(word, this.#atMs))
  }

  /** The same at once, of a job that goes on without us. */
  settleNow(word: string): void {
    this.#hideModel()
    this.#voice.rowsNow(this.#tools.settle(word, this.#run.clock.nowMs()))
  }

  async #print(channel: OutputChannel, text: string): Promise<void> {
    switch (channel) {
      case 'reasoning':
        return this.#run.detail.showsReasoning ? await this.#think(this.#reasoning.push(channel, text)) : undefined
      case 'stdout':
      case 'stderr':
        if (this.#tools.hasStarted) return await this.#tools.print(channel, text)
        return await this.#voice.text(channel, text)
      case 'text':
        this.#hideModel()
        await this.#endReasoning()
        return await this.#voice.text(channel, text)
      default:
        // A channel of a newer server.
        return
    }
  }

  /** Until it speaks nothing else would show that something goes on. */
  #awaitModel(model: string, sinceMs: number): void {
    const { clock, screen } = this.#run
    const line = { state: 'running', tool: 'model', essence: plainWords(model) } as const
    this.#hideModel()
    this.#hideModel = this.#voice.addLive({
      head: (columns) => toolLine({ ...line, tookMs: clock.nowMs() - sinceMs }, columns, screen.paint),
      tail: () => [],
    })
  }

  async #endReasoning(): Promise<void> {
    await this.#think(this.#reasoning.rest())
  }

  async #think(lines: readonly string[]): Promise<void> {
    const { screen } = this.#run
    const room = this.#voice.columns - REASONING_MARK.length
    const rows = lines.flatMap((line) => screen.folded(line, room))
    await this.#voice.rows(rows.map((row) => screen.paint.faint(REASONING_MARK + row)))
  }

  /** Of the agent: its model does not answer, and is asked again. */
  async #sayRetry(value: Json): Promise<void> {
    if (typeof value !== 'object' || value === null || !('reason' in value) || !('waitMs' in value)) return
    const { reason, waitMs } = value
    if (typeof reason !== 'string' || typeof waitMs !== 'number') return
    await this.#say(`${plainLine(reason)}; again in ${durationText(waitMs)}`)
  }

  async #say(line: string): Promise<void> {
    await this.endText()
    await this.#voice.rows(this.#run.screen.paragraph(line, this.#voice.columns))
  }
}
