import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { OwnServer } from '../cluster/OwnServer.ts'
import { type Descriptors, processesNaming, type ServerProcess } from './ServerProcess.ts'
import { TetherApi } from './TetherApi.ts'
import { CALM_DEADLINE_MS, LOOK_AGAIN_MS, within } from './within.ts'

const STEADY_LOOKS = 10

/** One server of those that are stormed, and what is left of it. */
export class Replica {
  readonly name: string
  readonly api: TetherApi
  readonly port: number
  readonly #own: OwnServer | undefined
  #process: ServerProcess | undefined
  #before: Descriptors | undefined
  #isKilled = false

  constructor(name: string, url: URL, own: OwnServer | undefined, process: ServerProcess | undefined) {
    this.name = name
    this.api = new TetherApi(url)
    this.port = Number(url.port)
    this.#own = own
    this.#process = process
  }

  /** Undefined where it is not seen. */
  get pid(): number | undefined {
    return this.#process?.pid
  }

  /** The process turned out to be this one. */
  recognise(process: ServerProcess | undefined): void {
    this.#process ??= process
  }

  /** Settles when it is as it is to be after the storm. */
  async noteBefore(): Promise<void> {
    await this.api.disconnect()
    this.#process?.noteOwnChildren()
    this.#before = await this.#steadyDescriptors()
  }

  async kill(): Promise<void> {
    this.#isKilled = true
    await this.#own?.kill()
    // Nothing may be left of it, its own children included.
    this.#process?.forgetOwnChildren()
  }

  async isCalm(): Promise<boolean> {
    if (this.#isKilled) return true
    const { running, queued, stuck } = await this.api.ready()
    return running === 0 && queued === 0 && stuck.length === 0
  }

  /** What is there now and should not be. At once, not after a while: a job that has ended has no processes. */
  async leftOver(word: string): Promise<readonly string[]> {
    return [...(await this.#unfinished()), ...this.#remains(word)].map((what) => this.#named(what))
  }

  /** Closed connections are closed on the other side a moment later, so this waits for the count to come back. */
  async extraDescriptors(): Promise<readonly string[]> {
    await this.api.disconnect()
    const extra = (): string[] =>
      Object.entries(this.#descriptors() ?? {}).flatMap(([kind, count]) => {
        const more = count - (this.#before?.[kind] ?? 0)
        return more > 0 ? [`${more} descriptors of the server: ${kind}`] : []
      })
    await within(CALM_DEADLINE_MS, () => Promise.resolve(extra().length === 0))
    return extra().map((what) => this.#named(what))
  }

  /** Ends it where it is ours, and tells what is wrong with that. */
  async end(word: string): Promise<readonly string[]> {
    if (this.#own === undefined || this.#isKilled) return []
    const files = await this.#own.temporaryFiles()
    const exit = await this.#own.stop()
    this.#process?.forgetOwnChildren()
    // What watches over a server's processes learns of its end a moment later.
    await within(CALM_DEADLINE_MS, () => Promise.resolve(this.#processes(word).length === 0))
    return [
      ...files.map((file) => `temporary file ${file}`),
      ...(exit === '0' ? [] : [`the server exited with ${exit}`]),
      ...this.#own.complaints.map((line) => `the server said: ${line}`),
      ...this.#remains(word).map((what) => `${what} after the server's end`),
    ].map((what) => this.#named(what))
  }

  async #unfinished(): Promise<readonly string[]> {
    if (this.#isKilled) return []
    const { running, queued, stuck, ready } = await this.api.ready()
    return [
      ...(ready ? [] : ['the server is not ready']),
      ...(running > 0 ? [`${running} functions run`] : []),
      ...(queued > 0 ? [`${queued} jobs are queued`] : []),
      ...stuck.map(({ id }) => `job ${id} is stuck`),
    ]
  }

  #remains(word: string): readonly string[] {
    const children = this.#isKilled ? [] : (this.#process?.children() ?? [])
    return [
      ...this.#processes(word).map((line) => `process ${line}`),
      ...children.map((line) => `child of the server ${line}`),
      ...(this.#process?.controlGroups() ?? []).map((path) => `control group ${path}`),
    ]
  }

  #processes(word: string): readonly string[] {
    return this.#process?.processesOf(word) ?? processesNaming(word)
  }

  #descriptors(): Descriptors | undefined {
    return this.#isKilled ? undefined : this.#process?.descriptors()
  }

  /** The count once it has been the same for a while: connections that we closed are closed on the other side a moment later. */
  async #steadyDescriptors(): Promise<Descriptors | undefined> {
    let last = this.#descriptors()
    let sameLooks = 0
    await within(CALM_DEADLINE_MS, async () => {
      await sleep(LOOK_AGAIN_MS)
      const now = this.#descriptors()
      sameLooks = isDeepStrictEqual(now, last) ? sameLooks + 1 : 0
      last = now
      return sameLooks === STEADY_LOOKS
    })
    return last
  }

  #named(what: string): string {
    return this.name === '' ? what : `${this.name}: ${what}`
  }
}
