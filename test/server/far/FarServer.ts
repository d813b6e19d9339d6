import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { JobView } from '../../../src/job/view.ts'
import { parseFrames } from '../../world.ts'
import { FarClient, TOKEN } from './FarClient.ts'
import type { Namespace } from './Namespace.ts'
import { patiently } from './patiently.ts'

const MAIN = join(import.meta.dirname, '../../../src/main.ts')

/** The server's end of a connection, as its kernel's table has it. */
export interface ServerEnd {
  readonly isWindowShut: boolean
  /** What is left of the timer that runs, in ms. */
  readonly timerMs: number
}

/** The program itself, in a namespace, and one client at its side that sees what becomes of all jobs. */
export class FarServer {
  readonly port: number
  readonly #pid: number
  readonly #witness: FarClient

  private constructor(pid: number, port: number, witness: FarClient) {
    this.#pid = pid
    this.port = port
    this.#witness = witness
  }

  /** No client is ever dropped as stalled: what ends a job here is what the tests are about. It ends with its namespace. */
  static async start(namespace: Namespace, settings: Readonly<Record<string, string>>): Promise<FarServer> {
    const fixed = { PORT: '0', CONTAINMENT: 'group', API_TOKEN: TOKEN, STALL_MS: '3600000' }
    const child = namespace.spawn([MAIN], { ...fixed, ...settings })
    let output = ''
    for (const pipe of [child.stdout, child.stderr]) {
      pipe?.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    }
    const port = await patiently(
      () => `the server listens: ${output}`,
      () => /listens on \S+:(\d+)/.exec(output)?.[1],
    )
    const witness = new FarClient(namespace, '127.0.0.1', Number(port))
    witness.request({ path: '/jobs/events' })
    await witness.until('retry:')
    return new FarServer(child.pid ?? 0, Number(port), witness)
  }

  /** The newest of what was said about the job. */
  job(id: string): JobView | undefined {
    const rows = parseFrames(this.#witness.received).flatMap((event) => ('job' in event ? [event.job] : []))
    return rows.findLast((row) => row.id === id)
  }

  ended(id: string): Promise<JobView> {
    return patiently(
      () => `${id}, which is ${this.job(id)?.status}, has ended`,
      () => {
        const job = this.job(id)
        return job?.terminal === true && job
      },
    )
  }

  /** Its connection with the client whose IPv4 address begins like that; undefined where there is none that is established. */
  endOf(serverAddress: string): ServerEnd | undefined {
    const address = Buffer.from(serverAddress.split('.').map(Number).toReversed()).toString('hex').toUpperCase()
    const isOurs = new RegExp(
      `${address}:${this.port.toString(16).toUpperCase().padStart(4, '0')} \\S+ 01 \\S+ (\\w\\w):(\\w+)`,
    )
    const tables = ['tcp', 'tcp6'].map((name) => readFileSync(`/proc/${this.#pid}/net/${name}`, 'latin1'))
    const [, timer, ticks = ''] = isOurs.exec(tables.join('')) ?? []
    return timer === undefined ? undefined : { isWindowShut: timer === '04', timerMs: Number.parseInt(ticks, 16) * 10 }
  }
}
