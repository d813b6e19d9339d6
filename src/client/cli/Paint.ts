/** Colours of the client's own words. */
export interface Paint {
  readonly good: (text: string) => string
  readonly bad: (text: string) => string
  readonly label: (text: string) => string
  /** What stands back: times, what a tool printed. */
  readonly faint: (text: string) => string
}

const asIs = (text: string): string => text

export const NO_PAINT: Paint = { good: asIs, bad: asIs, label: asIs, faint: asIs }

/** Each ends what it begins, and nothing else: of what the job has set it leaves the rest. */
export const PAINT: Paint = {
  good: (text) => `\x1b[32m${text}\x1b[39m`,
  bad: (text) => `\x1b[31m${text}\x1b[39m`,
  label: (text) => `\x1b[36m${text}\x1b[39m`,
  faint: (text) => (text === '' ? '' : `\x1b[2m${text}\x1b[22m`),
}
