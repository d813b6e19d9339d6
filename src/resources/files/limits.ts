/** How much the file tools take and give. An answer that reached a limit says so, and says how to get the rest. */
export interface FileLimits {
  /** Lines of one `read`. */
  readonly maxReadLines: number
  /** UTF-16 units of one line of `read`; the rest of the line is counted only. */
  readonly maxLineLength: number
  /** What one answer holds, in UTF-8, before its notes. */
  readonly maxAnswerBytes: number
  /** A file that `write` or `edit` leaves, and one that `edit` takes. */
  readonly maxFileBytes: number
  /** Entries of one `list`. */
  readonly maxListed: number
  /** Entries that one `list` or `search` looks at, shown or not. */
  readonly maxVisited: number
  /** Lines of one `search`. */
  readonly maxMatches: number
  /** UTF-16 units of one line of `search`: the part around the match is shown. */
  readonly maxMatchLength: number
  /** How long one `search` may take, waiting for its turns included. */
  readonly maxSearchMs: number
}

/** A model reads an answer of 64 KiB for some 20,000 tokens, which is as much as one step is worth. */
export const DEFAULT_LIMITS: FileLimits = {
  maxReadLines: 2000,
  maxLineLength: 2000,
  maxAnswerBytes: 64 * 1024,
  maxFileBytes: 4 * 1024 * 1024,
  maxListed: 1000,
  maxVisited: 50_000,
  maxMatches: 200,
  maxMatchLength: 300,
  maxSearchMs: 10_000,
}
