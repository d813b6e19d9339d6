import { BaseClient, type ClientOptions } from './BaseClient.ts'
import { DEFAULT_SERVER } from './Transport.ts'
import { UndiciWire } from './UndiciWire.ts'

/** The client of a program that runs in Node. Default server: `http://127.0.0.1:3000`. */
export class TetherClient extends BaseClient {
  /** @throws {TypeError} where `server` is not an absolute http or https URL. */
  constructor(options: ClientOptions = {}) {
    super({ ...options, server: options.server ?? DEFAULT_SERVER }, undefined, (limits) => new UndiciWire(limits))
  }
}
