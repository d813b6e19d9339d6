/** `GET /health/ready`. The details are for those whom the server trusts. */
export interface Health {
  readonly ready: boolean
  readonly draining?: boolean
  readonly checks?: readonly { readonly name: string; readonly ok: boolean; readonly detail?: string }[]
  readonly stuck?: readonly { readonly id: string; readonly task: string; readonly since: string }[]
  readonly containment?: { readonly level: string; readonly complete: boolean }
  readonly running?: number
  readonly queued?: number
  /** A login let the page in. */
  readonly hasSession?: boolean
}
