import { durationText } from './duration.ts'
import type { Paint } from './Paint.ts'
import { cutTo, widthOf } from './textWidth.ts'

/** One call of a tool as a line tells it: what it is, what it did, what there is to say of it, how long it took. */
export interface ToolLine {
  readonly state: keyof typeof MARKS
  readonly tool: string
  readonly essence: string
  readonly remark?: string
  readonly tookMs?: number | undefined
}

export const MARKS = { running: '▸', succeeded: '✓', failed: '✗', unfinished: '…' } as const

const GAP = '  '
/** What is cut to less says nothing. */
const MIN_COLUMNS = 4
const MIN_TOOL_COLUMNS = 8

/** Such as `✗ write_file  src/app.js  path leaves the workspace  3 ms`, at most `columns` wide. All of it must be plain. */
export function toolLine(line: ToolLine, columns: number, paint: Paint): string {
  const tool = cutTo(line.tool, Math.min(columns - 2, Math.max(MIN_TOOL_COLUMNS, Math.floor(columns / 3))))
  let room = columns - 2 - widthOf(tool)
  const time = line.tookMs === undefined ? '' : durationText(line.tookMs)
  const shownTime = widthWithGap(time) > room ? '' : time
  room -= widthWithGap(shownTime)
  // The remark is why one reads the line: where both are long it gets half.
  const remark = part(line.remark ?? '', room - Math.min(widthWithGap(line.essence), Math.floor(room / 2)))
  room -= widthWithGap(remark)
  const parts = [part(line.essence, room), remark, paint.faint(shownTime)].filter((text) => text !== '')
  return [[painted(line.state, paint), tool].join(' ').trimEnd(), ...parts].join(GAP)
}

/** What a tool printed, one row each, under its line. */
export function outputRows(lines: readonly string[], columns: number, paint: Paint): string[] {
  return lines.map((line) => paint.faint(cutTo(`${GAP}│ ${line}`, columns)))
}

function part(text: string, roomWithGap: number): string {
  const room = roomWithGap - GAP.length
  if (widthOf(text) <= room) return text
  return room < MIN_COLUMNS ? '' : cutTo(text, room)
}

function widthWithGap(text: string): number {
  return text === '' ? 0 : GAP.length + widthOf(text)
}

function painted(state: ToolLine['state'], paint: Paint): string {
  const mark = MARKS[state]
  if (state === 'succeeded') return paint.good(mark)
  return state === 'failed' ? paint.bad(mark) : mark
}
