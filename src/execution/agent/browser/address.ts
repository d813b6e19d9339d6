/** What a model may open, as browsers write it. @throws {Error} saying what may be opened */
export function addressOf(text: string): string {
  const url = URL.parse(text)
  const shown = JSON.stringify(text.slice(0, 200))
  if (url === null) throw new Error(`url must be a whole address such as https://example.com/, got ${shown}`)
  if (url.protocol === 'http:' || url.protocol === 'https:' || url.href === 'about:blank') return url.href
  const serve = 'to look at files of the workspace, serve them (terminal with background: python3 -m http.server)'
  throw new Error(`url must begin with http:// or https://, got ${shown}; ${serve}`)
}

/** Where a page may lead by itself. The browser keeps pages from all other places; this is asked to see whether it did. */
const REACHABLE = ['http:', 'https:', 'about:', 'blob:', 'data:', 'chrome-error:']

export function isReachable(url: string): boolean {
  return url === '' || REACHABLE.includes(URL.parse(url)?.protocol ?? '')
}
