import { isTooDeep, type Json, MAX_JSON_DEPTH } from '../../job/json.ts'

/** What a model passes to a tool, or why that is none, in words for the model. */
export type ToolInput = { readonly value: Json } | { readonly refusedBecause: string }

export function parseToolInput(json: string): ToolInput {
  // Some models send nothing at all for a tool without parameters.
  if (json.trim() === '') return { value: {} }
  try {
    const value: Json = JSON.parse(json)
    if (!isTooDeep(value)) return { value }
    return { refusedBecause: `the input of the call must be nested no deeper than ${MAX_JSON_DEPTH} levels` }
  } catch (error) {
    if (error instanceof SyntaxError) return { refusedBecause: 'the input of the call is not JSON' }
    throw error
  }
}
