import { stripVTControlCharacters } from 'node:util'
import { messageOf } from '../../../../job/messageOf.ts'

const MAX_UNITS = 1500

/** What the errors of the network mean for who asked; the browser's own names say little to a model. */
const NETWORK: readonly (readonly [RegExp, string])[] = [
  [/ERR_NAME_NOT_RESOLVED/, 'there is no such host'],
  [/ERR_CONNECTION_REFUSED/, 'nothing listens there'],
  [
    /ERR_CONNECTION_(?:RESET|CLOSED|ABORTED)|ERR_EMPTY_RESPONSE|ERR_SOCKET/,
    'the server closed the connection without an answer',
  ],
  [/ERR_(?:CONNECTION_)?TIMED_OUT/, 'the server could not be reached in time'],
  [/ERR_INTERNET_DISCONNECTED|ERR_ADDRESS_UNREACHABLE|ERR_NETWORK/, 'it cannot be reached from here'],
  [
    /ERR_CERT_|ERR_SSL_/,
    'the server has no certificate that can be trusted, and this browser does not go on without one',
  ],
  [/ERR_TOO_MANY_REDIRECTS/, 'it redirects in a circle'],
  [
    /ERR_UNSAFE_REDIRECT|ERR_UNKNOWN_URL_SCHEME|ERR_DISALLOWED_URL_SCHEME/,
    'it leads to an address that this browser does not open',
  ],
  [
    /ERR_INVALID_AUTH/,
    'it wants a name and a password, which the address can bear: https://NAME:PASSWORD@example.com/',
  ],
  [/ERR_BLOCKED_BY/, 'the browser or the server blocked it'],
  [/ERR_UNSAFE_PORT/, 'browsers refuse this port'],
]

/** Whatever Playwright threw, in words, without its colours and the name of its function. */
export function explain(error: unknown): string {
  const message = stripVTControlCharacters(messageOf(error))
    .replace(/^\w+\.\w+: /, '')
    .trim()
  const name = /net::(ERR_\w+)/.exec(message)?.[1]
  if (name !== undefined) return `${NETWORK.find(([pattern]) => pattern.test(name))?.[1] ?? 'it failed'} (${name})`
  return message.length > MAX_UNITS ? `${message.slice(0, MAX_UNITS)}…` : message
}

/** Whether it is Playwright's own, of a limit that we gave. */
export function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === 'TimeoutError'
}
