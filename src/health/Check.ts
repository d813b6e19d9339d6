/** What a look at one thing found. Figures are named with their units. */
export interface Finding {
  readonly ok: boolean
  /** What is wrong, where something is. */
  readonly detail?: string
  readonly figures?: Readonly<Record<string, number | string | boolean>>
}

export interface Check extends Finding {
  readonly name: string
}

/** A check that asks something that may take its time, or never answer. A rejection is a finding too. */
export interface Probe {
  readonly name: string
  readonly run: () => Promise<Finding>
}
