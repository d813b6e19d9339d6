import { useLayoutEffect, useReducer } from 'preact/hooks'
import type { Changes } from './Changes.ts'

/** Renders again when one of these changed. Gives their versions, for what is to be computed anew then. */
export function useChanges(...sources: readonly Changes[]): number {
  const [, again] = useReducer((count: number) => count + 1, 0)
  const seen = versionOf(sources)
  useLayoutEffect(() => {
    const undo = sources.map((source) => source.subscribe(() => again(undefined)))
    // What changed between the render and now told nobody.
    if (versionOf(sources) !== seen) again(undefined)
    return () => {
      for (const end of undo) end()
    }
    // biome-ignore format: the sources themselves
  }, sources)
  return seen
}

function versionOf(sources: readonly Changes[]): number {
  return sources.reduce((sum, { version }) => sum + version, 0)
}
