import { BaseClient, type ClientOptions } from '../BaseClient.ts'
import { DEFAULT_SERVER } from '../Transport.ts'
import { FetchWire } from './FetchWire.ts'

/**
 * The client of a page, and of whatever else has `fetch`. `server` may be relative to the page; default: its origin. `fetch` does
 * not tell whether there is no server or a connection broke, so both are `ConnectionLost`. Over HTTP/1.1 a browser has six
 * connections to a server, and each stream takes one.
 */
export class TetherClient extends BaseClient {
  /** @throws {TypeError} where `server` is not an http or https URL. */
  constructor(options: ClientOptions = {}) {
    const base = pageAddress()
    const server = options.server ?? (base === undefined ? DEFAULT_SERVER : '/')
    super({ ...options, server }, base, (limits) => new FetchWire(limits))
  }
}

/** Undefined where there is none, as in programs that are no page. */
function pageAddress(): string | undefined {
  const location: unknown = Reflect.get(globalThis, 'location')
  const href: unknown = typeof location === 'object' && location !== null ? Reflect.get(location, 'href') : undefined
  return typeof href === 'string' ? href : undefined
}
