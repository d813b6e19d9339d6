import { useEffect, useState } from 'preact/hooks'
import { type Route, routeOf } from './Route.ts'

export function useRoute(): Route {
  const [hash, setHash] = useState(location.hash)
  useEffect(() => {
    const look = (): void => setHash(location.hash)
    addEventListener('hashchange', look)
    return () => removeEventListener('hashchange', look)
  }, [])
  return routeOf(hash)
}
