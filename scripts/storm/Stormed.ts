import type { JobView } from '../../src/job/view.ts'
import { nameOf, OwnCluster } from '../cluster/OwnCluster.ts'
import { OwnServer } from '../cluster/OwnServer.ts'
import type { Sighting } from './client.ts'
import type { StormOptions } from './options.ts'
import { Replica } from './Replica.ts'
import { ServerProcess } from './ServerProcess.ts'
import { TetherApi } from './TetherApi.ts'
import type { Excuse } from './verdict.ts'

/** Servers of our own run this share of the clients' jobs at once, so that the others wait. */
const SHARE_OF_SLOTS = 1 / 3

/** What a server opens once is open after a job of each kind and this much output. */
const WARM_UP_COMMAND = 'command'
const WARM_UP_TICKS = { task: 'ticks', input: { count: 1300, intervalMs: 0, bytes: 16 * 1024 } }
/** Which replica gets a job is not for us to say, so each round has some for each of them. */
const WARM_UP_JOBS = 4
const MAX_WARM_UPS = 30

/** What is stormed: a running server, one of our own, or several of our own that are one. */
export class Stormed {
  readonly url: URL
  /** For requests that are not themselves part of the storm's mischief. */
  readonly api: TetherApi
  readonly replicas: readonly Replica[]
  readonly #own: OwnServer | OwnCluster | undefined
  #killed: { readonly replica: Replica; readonly at: number } | undefined

  private constructor(url: URL, replicas: readonly Replica[], own: OwnServer | OwnCluster | undefined, kills: boolean) {
    this.url = url
    this.api = new TetherApi(url, { comesBack: kills })
    this.replicas = replicas
    this.#own = own
  }

  static async open(options: StormOptions): Promise<Stormed> {
    const { url, replicas: count, kills } = options
    if (url !== undefined) return new Stormed(url, [new Replica('', url, undefined, undefined)], undefined, kills)
    if (count === undefined) {
      const own = await OwnServer.start({ env: environmentFor(options) })
      return new Stormed(own.url, [new Replica('', own.url, own, ServerProcess.ofPid(own.pid))], own, kills)
    }
    const own = await OwnCluster.start({ replicas: count, port: 0, env: environmentFor(options) })
    const replicas = own.replicas.map(
      (server, index) => new Replica(nameOf(index), server.url, server, ServerProcess.ofPid(server.pid)),
    )
    return new Stormed(own.proxy.url, replicas, own, kills)
  }

  /** Settles when every server has had jobs of each kind; of one that runs already, the jobs tell which process it is. */
  async warmUp(word: string): Promise<void> {
    const command = { task: WARM_UP_COMMAND, input: { command: `sleep 0 ${word}` } }
    const cold = new Set(this.replicas.flatMap(({ pid }) => [`command ${pid}`, `ticks ${pid}`]))
    for (let round = 0; round < MAX_WARM_UPS; round += 1) {
      const starts = this.replicas.flatMap(({ api }) =>
        Array.from({ length: this.replicas.length === 1 ? 1 : WARM_UP_JOBS }, () => [
          api.execute(command),
          api.execute(WARM_UP_TICKS),
        ]).flat(),
      )
      for (const job of await Promise.all(starts)) {
        const process = ServerProcess.ofJob(job)
        if (this.replicas.length === 1) this.replicas[0]?.recognise(process)
        cold.delete(`${job.task} ${process?.pid}`)
      }
      if (cold.size === 0 || this.#own === undefined) break
    }
    for (const replica of this.replicas) await replica.noteBefore()
  }

  /** Kills one of several. */
  async killOne(): Promise<void> {
    const killed = this.replicas.at(-1)
    this.#killed = killed && { replica: killed, at: Date.now() }
    await killed?.kill()
  }

  /** What the death of a server excuses in one stream. */
  excuseFor({ ports, overAt }: Sighting, job: JobView | undefined): Excuse {
    const own = this.#own
    if (this.#killed === undefined || !(own instanceof OwnCluster)) return { isCut: false, isRunnerDead: false }
    const { replica, at } = this.#killed
    return {
      isCut: overAt >= at && ports.some((port) => own.proxy.wentTo(port, replica.port)),
      isRunnerDead: job?.failure?.code === REPLICA_LOST,
    }
  }

  /** Ends what is ours, and tells what is wrong with that. */
  async end(word: string): Promise<readonly string[]> {
    const wrong = await Promise.all(this.replicas.map((replica) => replica.end(word)))
    await this.remove()
    return wrong.flat()
  }

  /** For every way out: nothing of ours is left when this settles. Twice is harmless. */
  async remove(): Promise<void> {
    await this.#own?.remove()
  }
}

/** The failure of a job whose server died; one that had just got it is not yet in its record. */
const REPLICA_LOST = 'TETHER_REPLICA_LOST'

/** With fewer slots than there are clients, some of their jobs wait. */
function environmentFor({ concurrency, replicas = 1 }: StormOptions): Readonly<Record<string, string | undefined>> {
  const slots = Math.max(2, Math.floor((concurrency * SHARE_OF_SLOTS) / replicas))
  return {
    PATH: process.env['PATH'],
    HOME: process.env['HOME'],
    CONCURRENCY: String(slots),
    MAX_QUEUED: '100000',
    MAX_STREAMS_PER_CLIENT: '100000',
    LOG_LEVEL: 'warn',
    ...(process.env['CONTAINMENT'] === undefined ? {} : { CONTAINMENT: process.env['CONTAINMENT'] }),
  }
}
