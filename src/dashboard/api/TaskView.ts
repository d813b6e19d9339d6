import type { Json } from '../../job/json.ts'

/** A row of `GET /tasks`. `input` is the JSON Schema of what it takes. */
export interface TaskView {
  readonly name: string
  readonly description?: string
  readonly concurrencyLimit?: number
  readonly input: Json
}
