import { Agent, type Dispatcher, request } from 'undici'
import { type SseFrame, SseParser } from '../../src/client/SseParser.ts'
import type { CancelKind } from '../../src/job/cancellation.ts'
import type { JobView } from '../../src/job/view.ts'

/** What `/health/ready` says to a caller that it trusts. */
export interface Readiness {
  readonly ready: boolean
  readonly stuck: readonly { readonly id: string }[]
  readonly containment: { readonly level: string; readonly complete: boolean }
  readonly running: number
  readonly queued: number
}

/** The requests that are not themselves part of the storm's mischief. */
export class TetherApi {
  readonly #url: URL
  readonly #comesBack: boolean
  #agent = newAgent()

  /** `comesBack`: what was asked on a connection that was cut is asked again; all that is asked here may be asked twice. */
  constructor(url: URL, { comesBack = false }: { readonly comesBack?: boolean } = {}) {
    this.#url = url
    this.#comesBack = comesBack
  }

  /** Closes its connections, so that the server's descriptors can be counted; the next request opens new ones. */
  async disconnect(): Promise<void> {
    const agent = this.#agent
    this.#agent = newAgent()
    await agent.close()
  }

  /** The HTTP status of the answer. */
  async end(id: string, kind: CancelKind, ifUnknown: 'reject' | 'remember'): Promise<number> {
    const { statusCode, body } = await this.#request(`/jobs/${id}/${kind}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ reason: 'the storm', ifUnknown }),
    })
    await body.dump()
    return statusCode
  }

  /** Settles with the job when it has ended. */
  async execute(start: object): Promise<JobView> {
    // The program is ours on both ends: its answers have the types of its source.
    return (await this.#json('/execute', start)) as JobView
  }

  async ready(): Promise<Readiness> {
    return (await this.#json('/health/ready')) as Readiness
  }

  /** The jobs of a group, page after page. */
  async jobsOf(group: string): Promise<readonly JobView[]> {
    const jobs: JobView[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const query = `group=${group}&limit=200${cursor === '' ? '' : `&cursor=${cursor}`}`
      const page = (await this.#json(`/jobs?${query}`)) as { jobs: JobView[]; nextCursor: string | null }
      jobs.push(...page.jobs)
      cursor = page.nextCursor
    }
    return jobs
  }

  /** The whole log of a job that has ended. */
  async logOf(id: string): Promise<readonly SseFrame[]> {
    const { body } = await this.#request(`/jobs/${id}/events`)
    return new SseParser().push(await body.bytes())
  }

  async #json(path: string, post?: object): Promise<unknown> {
    const { statusCode, body } = await this.#request(
      path,
      post && { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(post) },
    )
    const text = await body.text()
    if (statusCode !== 200 && statusCode !== 503)
      throw new Error(`${path} answered ${statusCode}: ${text.slice(0, 300)}`)
    return JSON.parse(text)
  }

  async #request(path: string, options: Omit<Dispatcher.RequestOptions, 'origin' | 'path'> = { method: 'GET' }) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await request(new URL(path, this.#url), { ...options, dispatcher: this.#agent })
      } catch (error) {
        if (!this.#comesBack || tries === MAX_TRIES || !isCut(error)) throw error
      }
    }
  }
}

/** As many connections may be cut one after the other as there are kept open to one server. */
const MAX_TRIES = 40

function isCut(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === 'ECONNRESET' || code === 'UND_ERR_SOCKET' || code === 'EPIPE'
}

function newAgent(): Agent {
  return new Agent({ connections: 32, pipelining: 1 })
}
