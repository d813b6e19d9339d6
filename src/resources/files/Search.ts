import type { Clock } from '../../clock.ts'
import type { Confinement } from './Confinement.ts'
import type { Folder } from './Folder.ts'
import { LoopTurns } from './LoopTurns.ts'
import type { FileLimits } from './limits.ts'
import { type Match, MatchedLines } from './MatchedLines.ts'
import { matchesIn } from './matchesIn.ts'
import { openFile } from './openFile.ts'
import { LineMatcher } from './pattern/LineMatcher.ts'
import { programOf } from './pattern/program.ts'
import { readLiteral, readPattern } from './pattern/syntax.ts'
import { shownPath } from './shownPath.ts'
import { codeOf, toolErrorFor } from './systemError.ts'
import { walk } from './walk.ts'

export interface SearchOptions {
  /** A folder or a file. Default: the workspace. */
  readonly path?: string
  /**
   * Default false: the pattern stands for itself. A regular expression is as in JavaScript with the flags `u` and `s`, without
   * references (`\1`) and looking around (`(?=`, `(?<!`), which linear time does not allow. `^` and `$` are the line's.
   */
  readonly isRegex?: boolean
  /** Default false. */
  readonly ignoreCase?: boolean
}

export interface SearchResult {
  /**
   * For the model: a line that matches a line, as `src/a.ts:12: its text`, by paths below the workspace; of a long one what is
   * around the match. Then, in square brackets, what was left out.
   */
  readonly text: string
  readonly matches: number
  /** How many files were searched, binary ones not among them. */
  readonly files: number
  /** Whether a limit left something out. */
  readonly isCut: boolean
}

export interface SearchRequest extends Omit<SearchOptions, 'path'> {
  readonly pattern: string
  readonly limits: FileLimits
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** One search, of a file or of a tree. It is linear in what it reads, and takes the event loop's time in turns with others. */
export class Search {
  readonly #request: SearchRequest
  readonly #matcher: LineMatcher
  readonly #turns = new LoopTurns()
  readonly #endsAtMs: number
  readonly #lines: string[] = []
  #bytes = 0
  #files = 0
  #binary = 0
  #unreadable = 0
  #cut: string | undefined

  /** @throws {ToolError} where the pattern is malformed or too large */
  constructor(request: SearchRequest) {
    const { pattern, isRegex = false, ignoreCase = false, clock, limits } = request
    this.#request = request
    this.#matcher = new LineMatcher(programOf(isRegex ? readPattern(pattern) : readLiteral(pattern), { ignoreCase }))
    this.#endsAtMs = clock.monotonicMs() + limits.maxSearchMs
  }

  /** Searches the folder `start` and those below it. */
  async searchTree(confinement: Confinement, start: string): Promise<void> {
    const { limits, signal } = this.#request
    const asked = new Set(start.split('/'))
    const options = { start, maxVisited: limits.maxVisited, asksFor: (name: string) => asked.has(name), signal }
    for await (const visit of walk(confinement, options)) {
      if (visit.kind === 'unreadable') {
        this.#unreadable += 1
        continue
      }
      for (const { kind, name, path } of visit.entries) {
        if (!this.#goesOn()) return
        if (kind === 'file') await this.#searchEntry(visit.folder, name, path)
      }
      if (visit.isCut) this.#cut = `${limits.maxVisited} files and folders`
    }
  }

  /** @throws {ToolError} where it is not a file that can be read */
  async searchFile(folder: Folder, name: string, path: string): Promise<void> {
    await using file = await openFile(folder, name, path)
    const { limits, signal } = this.#request
    let isBinary = false
    const onBinary = (): void => {
      isBinary = true
    }
    const lines = new MatchedLines(this.#matcher, {
      turns: this.#turns,
      maxLength: limits.maxMatchLength,
      goesOn: () => this.#goesOn(),
    })
    for await (const match of matchesIn(file, lines, { onBinary, signal })) this.#add(path, match)
    if (isBinary) this.#binary += 1
    else this.#files += 1
  }

  get result(): SearchResult {
    const matches = this.#lines.length
    const lines = [...this.#lines]
    if (matches === 0) lines.push(`[no line matches; files searched: ${this.#files}]`)
    if (this.#cut !== undefined) {
      lines.push(`[cut after ${this.#cut}: use a narrower pattern, or search one folder or file]`)
    }
    if (this.#binary > 0) lines.push(`[binary files, not searched: ${this.#binary}]`)
    if (this.#unreadable > 0) lines.push(`[files and folders that could not be read: ${this.#unreadable}]`)
    return { text: lines.join('\n'), matches, files: this.#files, isCut: this.#cut !== undefined }
  }

  /** One of many: that it cannot be read is told at the end. */
  async #searchEntry(folder: Folder, name: string, path: string): Promise<void> {
    try {
      await this.searchFile(folder, name, path)
    } catch (error) {
      if (toolErrorFor(error, path) === undefined) throw error
      // It was there a moment ago.
      if (codeOf(error) !== 'ENOENT') this.#unreadable += 1
    }
  }

  #goesOn(): boolean {
    const { clock, limits, signal } = this.#request
    signal.throwIfAborted()
    if (clock.monotonicMs() >= this.#endsAtMs) this.#cut ??= `${limits.maxSearchMs} ms`
    return this.#cut === undefined
  }

  #add(path: string, { line, text }: Match): void {
    const { limits } = this.#request
    const shown = `${shownPath(path)}:${line}: ${text}`
    this.#bytes += Buffer.byteLength(shown) + 1
    if (this.#lines.length >= limits.maxMatches || this.#bytes > limits.maxAnswerBytes) {
      this.#cut = `${this.#lines.length} matches`
      return
    }
    this.#lines.push(shown)
  }
}
