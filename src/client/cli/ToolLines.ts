import type { JobEvent } from '../../job/event.ts'
import { plainWords } from '../plainText.ts'
import { durationText } from './duration.ts'
import { essenceOf } from './essence.ts'
import { OutputLines } from './OutputLines.ts'
import { OutputTail } from './OutputTail.ts'
import type { Paint } from './Paint.ts'
import type { ServerClock } from './ServerClock.ts'
import { outputRows, type ToolLine, toolLine } from './toolLine.ts'
import type { Voice } from './Voice.ts'

export interface ToolLinesOptions {
  readonly voice: Voice
  readonly clock: ServerClock
  readonly paint: Paint
  /** Whether what goes on can be shown; else a line says so of a tool that takes long. */
  readonly isLive: boolean
  /** Whether the last lines that a tool printed stay under its own. */
  readonly keepsOutput: boolean
  /** Whether all that tools print is shown instead, as it comes, and what each came to. */
  readonly isVerbose: boolean
}

type Started = Extract<JobEvent, { type: 'tool.started' }>
type Finished = Extract<JobEvent, { type: 'tool.finished' }>

interface OpenTool {
  readonly tool: string
  readonly essence: string
  readonly startedAtMs: number
  readonly output: OutputTail
}

const MAX_KEPT_LINES = 3
/** Why it failed stands there. */
const MAX_KEPT_LINES_OF_FAILED = 10
/** A tool that takes longer is worth a line where nothing else shows that it runs. */
const LONG_MS = 2000
/** No row is longer, and an event may be 64 KiB. */
const MAX_CHARS = 1000
/** Of the tools that are open at a job's end. */
const MAX_SETTLED_ROWS = 20
/** The tool that prints, where several are open. */
const PRINTING_TOOL = 'terminal'

/** The tools of one job: a line for each when it has ended, and until then what the terminal can show of it. */
export class ToolLines {
  readonly #options: ToolLinesOptions
  readonly #open = new Map<string, OpenTool>()
  /** Takes back what shows a tool as running. */
  readonly #hiders = new Map<string, () => void>()
  /** Of what tools left running. */
  readonly #background = new OutputLines()
  #hasStarted = false

  constructor(options: ToolLinesOptions) {
    this.#options = options
  }

  /** From then on what the job prints is its tools' output. */
  get hasStarted(): boolean {
    return this.#hasStarted
  }

  get hasOpen(): boolean {
    return this.#open.size > 0
  }

  async start(event: Started): Promise<void> {
    const { voice, clock, isVerbose } = this.#options
    this.#hasStarted = true
    const atMs = clock.note(event)
    const forgotten = this.#take(event.callId)
    if (forgotten !== undefined) await voice.rows([this.#unfinishedRow(forgotten, 'not finished', atMs)])
    const tool = {
      tool: nameOf(event),
      essence: essenceOf(event.input),
      startedAtMs: atMs,
      output: new OutputTail(MAX_KEPT_LINES_OF_FAILED),
    }
    this.#open.set(event.callId, tool)
    this.#hiders.set(event.callId, this.#show(tool))
    if (isVerbose) await voice.rows([this.#row({ ...tool, state: 'running' })])
  }

  /** What the job printed. */
  async print(channel: 'stdout' | 'stderr', text: string): Promise<void> {
    const open = [...this.#open.values()]
    const speaker = open.findLast(({ tool }) => tool === PRINTING_TOOL) ?? open.at(-1)
    await this.#printed((speaker?.output ?? this.#background).push(channel, text))
  }

  async finish(event: Finished): Promise<void> {
    const { voice, clock, isVerbose } = this.#options
    const atMs = clock.note(event)
    const open = this.#take(event.callId)
    if (open !== undefined) await this.#printed(open.output.end())
    const row = this.#row({
      state: event.ok ? 'succeeded' : 'failed',
      // Where the log was cut, the start is missing.
      tool: open?.tool ?? nameOf(event),
      essence: open?.essence ?? '',
      remark: event.ok && !isVerbose ? '' : plainWords(event.summary.slice(0, MAX_CHARS)),
      tookMs: open === undefined ? undefined : atMs - open.startedAtMs,
    })
    await voice.rows([row, ...(open === undefined ? [] : this.#keptRows(open.output, event.ok))])
  }

  /** Rows for the tools that are open and of which nothing more will be heard; `word` says why, such as `cancelled`. */
  settle(word: string, atMs: number): readonly string[] {
    const open = [...this.#open.keys()].map((callId) => this.#take(callId)).filter((tool) => tool !== undefined)
    const rows = open.slice(0, MAX_SETTLED_ROWS).map((tool) => this.#unfinishedRow(tool, word, atMs))
    const hidden = open.length - rows.length
    return hidden === 0 ? rows : [...rows, `… and ${hidden} more ${word}`]
  }

  #take(callId: string): OpenTool | undefined {
    const open = this.#open.get(callId)
    this.#open.delete(callId)
    this.#hiders.get(callId)?.()
    this.#hiders.delete(callId)
    return open
  }

  #show(tool: OpenTool): () => void {
    const { voice, clock, paint, isLive, isVerbose } = this.#options
    if (isLive) {
      return voice.addLive({
        head: (columns) => this.#row({ ...tool, state: 'running', tookMs: clock.nowMs() - tool.startedAtMs }, columns),
        tail: (columns) => (isVerbose ? [] : outputRows(tool.output.lines, columns, paint)),
      })
    }
    if (isVerbose) return () => {}
    const timer = setTimeout(() => void voice.rows([this.#row({ ...tool, state: 'running' })]), LONG_MS)
    return () => clearTimeout(timer)
  }

  async #printed(lines: readonly string[]): Promise<void> {
    const { voice, paint, isVerbose } = this.#options
    if (isVerbose) await voice.rows(outputRows(lines, voice.columns, paint))
  }

  #keptRows(output: OutputTail, isOk: boolean): string[] {
    const { voice, paint, keepsOutput, isVerbose } = this.#options
    if (!keepsOutput || isVerbose) return []
    const lines = output.lines.slice(isOk ? -MAX_KEPT_LINES : -MAX_KEPT_LINES_OF_FAILED)
    const hidden = output.count - lines.length
    const note = hidden === 0 ? [] : [`… ${hidden} more before (--verbose shows all)`]
    return outputRows([...note, ...lines], voice.columns, paint)
  }

  #unfinishedRow(tool: OpenTool, word: string, atMs: number): string {
    return this.#row({ ...tool, state: 'unfinished', remark: `${word} after ${durationText(atMs - tool.startedAtMs)}` })
  }

  #row(line: ToolLine, columns = this.#options.voice.columns): string {
    return toolLine(line, columns, this.#options.paint)
  }
}

function nameOf({ tool }: Started | Finished): string {
  return plainWords(tool.slice(0, MAX_CHARS))
}
