import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { type RawRequest, textOf } from '../RawClient.ts'
import type { Namespace } from './Namespace.ts'
import { patiently } from './patiently.ts'

const CONNECTION = join(import.meta.dirname, 'fixtures/connection.ts')

/** The token of every server here; they listen beyond loopback. */
export const TOKEN = 'a-token-from-far-away'

/** A connection that a program in a namespace holds. */
export class FarClient {
  /** Everything that came, as text. */
  received = ''
  readonly #child: ChildProcess

  constructor(namespace: Namespace, host: string, port: number) {
    this.#child = namespace.spawn([CONNECTION, host, String(port)])
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.received += text
    })
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.received += text
    })
    // One that was killed takes no more.
    this.#child.stdin?.on('error', () => undefined)
  }

  request({ headers = {}, ...request }: RawRequest): void {
    this.#child.stdin?.write(textOf({ ...request, headers: { authorization: `Bearer ${TOKEN}`, ...headers } }))
  }

  /** Settles when `text` has come. */
  async until(text: string): Promise<void> {
    await patiently(
      () => `${text} comes, after ${this.received.slice(-500)}`,
      () => this.received.includes(text),
    )
  }

  /** Its kernel still answers, and before long says that there is no more room. */
  stopReading(): void {
    this.#child.kill('SIGSTOP')
  }

  readOn(): void {
    this.#child.kill('SIGCONT')
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}
