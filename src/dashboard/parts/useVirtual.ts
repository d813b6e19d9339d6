import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  observeWindowOffset,
  observeWindowRect,
  Virtualizer,
  windowScroll,
} from '@tanstack/virtual-core'
import { useLayoutEffect, useReducer, useState } from 'preact/hooks'

interface VirtualOptions {
  readonly count: number
  readonly estimateSize: (index: number) => number
  readonly getItemKey: (index: number) => number | string
  readonly overscan: number
  /** A row that stays in the page wherever it is scrolled to: the one that has the focus. */
  readonly kept?: number | undefined
}

/** A list of which only what is in view is in the page, scrolled with the page itself. */
export function useWindowVirtual(
  options: VirtualOptions & { readonly scrollMargin: number },
): Virtualizer<Window, HTMLElement> {
  const again = useAgain()
  const all = {
    ...optionsOf(options, again),
    scrollMargin: options.scrollMargin,
    getScrollElement: () => window,
    observeElementRect: observeWindowRect,
    observeElementOffset: observeWindowOffset,
    scrollToFn: windowScroll,
    initialOffset: () => window.scrollY,
  }
  const [virtualizer] = useState(() => new Virtualizer<Window, HTMLElement>(all))
  virtualizer.setOptions(all)
  useLayoutEffect(() => virtualizer._didMount(), [virtualizer])
  useLayoutEffect(() => virtualizer._willUpdate())
  return virtualizer
}

/** The same within an element that scrolls. Where `isAtEnd` says so, it is scrolled to its end by whoever uses this. */
export function useElementVirtual(
  options: VirtualOptions & { readonly element: () => HTMLElement | null; readonly isAtEnd: () => boolean },
): Virtualizer<HTMLElement, HTMLElement> {
  const again = useAgain()
  const all = {
    ...optionsOf(options, again),
    getScrollElement: options.element,
    observeElementRect,
    observeElementOffset,
    scrollToFn: elementScroll,
  }
  const [virtualizer] = useState(() => {
    const made = new Virtualizer<HTMLElement, HTMLElement>(all)
    made.shouldAdjustScrollPositionOnItemSizeChange = ({ start }, _delta, { scrollOffset }) =>
      !options.isAtEnd() && start < (scrollOffset ?? 0)
    return made
  })
  virtualizer.setOptions(all)
  useLayoutEffect(() => virtualizer._didMount(), [virtualizer])
  useLayoutEffect(() => virtualizer._willUpdate())
  return virtualizer
}

function useAgain(): () => void {
  const [, again] = useReducer((count: number) => count + 1, 0)
  return () => again(undefined)
}

function optionsOf({ count, estimateSize, getItemKey, overscan, kept }: VirtualOptions, again: () => void) {
  return {
    count,
    estimateSize,
    getItemKey,
    overscan,
    onChange: again,
    rangeExtractor: (range: { startIndex: number; endIndex: number; overscan: number; count: number }) => {
      const start = Math.max(0, range.startIndex - range.overscan)
      const end = Math.min(range.count - 1, range.endIndex + range.overscan)
      const indexes = Array.from({ length: Math.max(0, end - start + 1) }, (_, at) => start + at)
      if (kept === undefined || kept < 0 || kept >= range.count) return indexes
      if (kept < start) return [kept, ...indexes]
      return kept > end ? [...indexes, kept] : indexes
    },
  }
}
