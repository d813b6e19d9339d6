import { readFileSync } from 'node:fs'
import type { JobView } from '../../src/job/view.ts'
import { type ServerProcess, spawnServer } from '../jobs/serverProcess.ts'
import { type Answer, ask } from '../server/requests.ts'
import { eventually, temporaryFolder } from '../world.ts'
import { Reading } from './Reading.ts'

/** A lease that ends soon: whoever dies or is cut off is missed within a second or two. */
const SHORT_LEASE_MS = 2000

/** One server process of several that share a Redis. */
export class Replica {
  readonly process: ServerProcess
  readonly url: string
  readonly name: string

  private constructor(process: ServerProcess, url: string, name: string) {
    this.process = process
    this.url = url
    this.name = name
  }

  /** Settles when it listens. It is killed when the test ends. */
  static async start(
    redisUrl: string,
    name: string,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<Replica> {
    const process = spawnServer({
      DATA_DIR: await temporaryFolder(),
      REDIS_URL: redisUrl,
      REPLICA_ID: name,
      LEASE_MS: String(SHORT_LEASE_MS),
      DRAIN_MS: '0',
      ...settings,
    })
    return new Replica(process, await process.url(), name)
  }

  ask(path: string, options?: Parameters<typeof ask>[2]): Promise<Answer> {
    return ask(this.url, path, options)
  }

  /** Starts a job in the background. Gives its id. */
  async start(body: object): Promise<string> {
    const answer = await this.ask('/jobs', { body })
    if (answer.status !== 202) throw new Error(`the start was answered with ${answer.status}: ${answer.text}`)
    return String(answer.json['id'])
  }

  async job(id: string): Promise<JobView> {
    const { text } = await this.ask(`/jobs/${id}`)
    const view: JobView = JSON.parse(text)
    return view
  }

  /** Starts a job with a stream that holds it. */
  hold(body: object): Promise<Reading> {
    return Reading.open(`${this.url}/execute/stream`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
  }

  read(id: string, options: { readonly lastId?: number; readonly hold?: boolean } = {}): Promise<Reading> {
    const { lastId, hold = false } = options
    const request = lastId === undefined ? {} : { headers: { 'last-event-id': String(lastId) } }
    return Reading.open(`${this.url}/jobs/${id}/events${hold ? '?hold=true' : ''}`, request)
  }

  async untilStatus(id: string, status: string, deadlineMs?: number): Promise<JobView> {
    return eventually(
      `${id} is ${status} at ${this.name}`,
      async () => {
        const view = await this.job(id)
        return view.status === status && view
      },
      deadlineMs,
    )
  }

  /** As nobody but the system does: nothing is said to anybody. */
  async kill(): Promise<void> {
    this.process.child.kill('SIGKILL')
    await this.process.exited
  }

  /** Settles when it stands still. */
  async freeze(): Promise<void> {
    this.process.child.kill('SIGSTOP')
    await eventually('it stands still', () => stateOf(this.process.child.pid) === 'T')
  }

  thaw(): void {
    this.process.child.kill('SIGCONT')
  }

  terminate(): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }> {
    this.process.child.kill('SIGTERM')
    return this.process.exited
  }
}

/** Several of them, called a, b, c. */
export async function startReplicas(
  redisUrl: string,
  count: number,
  settings?: Readonly<Record<string, string>>,
): Promise<readonly Replica[]> {
  return Promise.all(['a', 'b', 'c'].slice(0, count).map((name) => Replica.start(redisUrl, name, settings)))
}

export function pairOf(replicas: readonly Replica[]): readonly [Replica, Replica] {
  const [a, b] = replicas
  if (a === undefined || b === undefined) throw new Error('there must be two replicas')
  return [a, b]
}

/** Who runs a job, once somebody does, and who does not. */
export async function ownerOf(
  replicas: readonly Replica[],
  id: string,
): Promise<{ readonly owner: Replica; readonly other: Replica }> {
  const [first] = replicas
  if (first === undefined) throw new Error('there must be replicas')
  const name = await eventually(`${id} runs`, async () => (await first.job(id)).replica)
  const owner = replicas.find((replica) => name.startsWith(`${replica.name}-`))
  const other = replicas.find((replica) => replica !== owner)
  if (owner === undefined || other === undefined) throw new Error(`${name} is none of the replicas`)
  return { owner, other }
}

/** A job whose process says its id and then does nothing for long. */
export function sleeper(more: object = {}): object {
  return { task: 'command', input: { command: 'echo pid $$; exec sleep 600' }, ...more }
}

/** A job whose process says its id and then goes on talking. */
export function talker(): object {
  return { task: 'command', input: { command: 'echo pid $$; while :; do echo on; sleep 0.02; done' } }
}

/** The process of a sleeper or a talker. */
export async function pidOf(reading: Reading): Promise<number> {
  return Number(await eventually('the process says its id', () => /pid (\d+)\n/.exec(reading.output)?.[1]))
}

export function isAlive(pid: number): boolean {
  const state = stateOf(pid)
  return state !== undefined && state !== 'Z'
}

/** The letter of `ps`; undefined where there is no such process. */
function stateOf(pid: number | undefined): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3)
  } catch {
    return undefined
  }
}
