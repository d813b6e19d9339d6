import type { Json } from '../job/json.ts'

/** An event is limited, and nobody reads a file's text in a tool's input (UTF-16 units). */
const MAX_SHOWN_UNITS = 1000
const MAX_SHOWN_ITEMS = 50
const MAX_SHOWN_DEPTH = 6
const MAX_SUMMARY_UNITS = 200
const MAX_NAME_UNITS = 64

/** All of an input together: as JSON a unit may take six bytes, and an event has 64 KiB. */
const MAX_SHOWN_IN_ALL = 8000

/** What a value takes besides its text. */
const VALUE_UNITS = 8

/** The name of a tool that a model made up, which may be of any length and hold anything. That of a tool that there is stays as it is. */
export function shownName(name: string): string {
  return name.slice(0, MAX_NAME_UNITS).replaceAll(/[^a-zA-Z0-9_-]/g, '_') || 'unknown'
}

/** A tool's input as its event shows it: long texts cut, with their length, and what is too much left out. */
export function shownInput(input: Json): Json {
  return shown(input, 0, { left: MAX_SHOWN_IN_ALL })
}

function shown(input: Json, depth: number, room: { left: number }): Json {
  room.left -= VALUE_UNITS
  if (room.left <= 0) return '…'
  if (typeof input === 'string') {
    const text = cut(input, Math.min(MAX_SHOWN_UNITS, room.left))
    room.left -= text.length
    return text
  }
  if (typeof input !== 'object' || input === null) return input
  if (depth >= MAX_SHOWN_DEPTH) return '…'
  if (Array.isArray(input)) {
    return whileRoom(input, room).map((item: Json) => shown(item, depth + 1, room))
  }
  const entries = whileRoom(Object.entries(input), room).map(([key, value]) => {
    const name = cut(key, MAX_SUMMARY_UNITS)
    room.left -= name.length
    return [name, shown(value, depth + 1, room)] as const
  })
  return Object.fromEntries(entries)
}

/** So many of them as there is room for, were they empty. */
function whileRoom<T>(items: readonly T[], room: { readonly left: number }): readonly T[] {
  return items.slice(0, Math.min(MAX_SHOWN_ITEMS, Math.max(0, Math.floor(room.left / VALUE_UNITS))))
}

/** One line of it, not too long. */
export function summaryOf(text: string): string {
  const [line = ''] = text.trim().split(/\r\n|\r|\n/, 1)
  return cut(line, MAX_SUMMARY_UNITS)
}

function cut(text: string, maxUnits: number): string {
  if (text.length <= maxUnits) return text.toWellFormed()
  return `${text.slice(0, maxUnits).toWellFormed()}… (${text.length} characters)`
}
