/**
 * What every answer bears that says nothing else: it is data, never a page, whatever its text looks like; no other site shows or loads
 * it, and nobody learns from it where it was.
 */
export const ANSWER_HEADERS = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
} as const

/** Of our own pages besides: nothing but our own files runs or is shown, and forms are sent to us alone. */
export const PAGE_HEADERS = {
  ...ANSWER_HEADERS,
  'content-security-policy': pagePolicy("'self'"),
  // Not `no-referrer`: a form that is sent from such a page bears `Origin: null` (Fetch, section 3.2).
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-cache',
} as const

/** `styles`: what may style the page. */
export function pagePolicy(styles: string): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    `style-src ${styles}`,
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
  ].join('; ')
}
