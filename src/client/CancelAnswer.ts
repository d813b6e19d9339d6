import type { CancelKind } from '../job/cancellation.ts'
import type { JobView } from '../job/view.ts'

/** What became of a cancel or a stop. `delivery` is the server's `x-tether-delivery`. */
export type CancelAnswer =
  | { readonly kind: 'accepted' | 'ended'; readonly job: JobView; readonly delivery: string | undefined }
  | {
      readonly kind: 'remembered'
      readonly id: string
      readonly request: CancelKind
      readonly expiresAt: string
      readonly delivery: string | undefined
    }
