import type { RefObject } from 'preact'
import { useLayoutEffect, useRef, useState } from 'preact/hooks'

/** This close to its end it is at its end. */
const NEAR_PX = 24

export interface Follow {
  readonly isAtEnd: () => boolean
  readonly toEnd: () => void
}

/** Keeps an element that grows scrolled to its end, until someone scrolls up; at the end again, it goes on. */
export function useFollow(element: RefObject<HTMLElement | null>): Follow {
  const isAtEnd = useRef(true)
  const [, again] = useState(true)
  const lastTop = useRef(0)

  useLayoutEffect(() => {
    const { current } = element
    if (current === null) return undefined
    const onScroll = (): void => {
      const { scrollTop, scrollHeight, clientHeight } = current
      // What grows below moves nothing up: only who reads does.
      if (scrollHeight - scrollTop - clientHeight < NEAR_PX) isAtEnd.current = true
      else if (scrollTop < lastTop.current) isAtEnd.current = false
      lastTop.current = scrollTop
      again(isAtEnd.current)
    }
    current.addEventListener('scroll', onScroll, { passive: true })
    return () => current.removeEventListener('scroll', onScroll)
  }, [])

  const toEnd = (): void => {
    isAtEnd.current = true
    again(true)
    element.current?.scrollTo(0, element.current.scrollHeight)
  }

  useLayoutEffect(() => {
    const { current } = element
    if (current === null || !isAtEnd.current) return
    if (current.scrollHeight - current.scrollTop - current.clientHeight >= 1) current.scrollTop = current.scrollHeight
  })

  return { isAtEnd: () => isAtEnd.current, toEnd }
}
