import { useEffect, useState } from 'preact/hooks'
import { type Route, routeOf } from './Route.ts'

/** Shows another thing of the same page, without one more step in the browser's history. */
export function replaceHash(hash: string): void {
  history.replaceState(null, '', hash)
  dispatchEvent(new HashChangeEvent('hashchange'))
}

export function useRoute(): Route {
  const [hash, setHash] = useState(location.hash)
  useEffect(() => {
    const look = (): void => setHash(location.hash)
    addEventListener('hashchange', look)
    return () => removeEventListener('hashchange', look)
  }, [])
  return routeOf(hash)
}
