import { Agent, request } from 'undici'
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
  #agent = newAgent()

  constructor(url: URL) {
    this.#url = url
  }

  /** Closes its connections, so that the server's descriptors can be counted; the next request opens new ones. */
  async disconnect(): Promise<void> {
    const agent = this.#agent
    this.#agent = newAgent()
    await agent.close()
  }

  /** The HTTP status of the answer. */
  async end(id: string, kind: CancelKind, ifUnknown: 'reject' | 'remember'): Promise<number> {
    const { statusCode, body } = await request(new URL(`/jobs/${id}/${kind}`, this.#url), {
      method: 'POST',
      dispatcher: this.#agent,
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
    const { body } = await request(new URL(`/jobs/${id}/events`, this.#url), { dispatcher: this.#agent })
    return new SseParser().push(await body.bytes())
  }

  async #json(path: string, post?: object): Promise<unknown> {
    const { statusCode, body } = await request(new URL(path, this.#url), {
      dispatcher: this.#agent,
      ...(post === undefined
        ? {}
        : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(post) }),
    })
    const text = await body.text()
    if (statusCode !== 200 && statusCode !== 503)
      throw new Error(`${path} answered ${statusCode}: ${text.slice(0, 300)}`)
    return JSON.parse(text)
  }
}

function newAgent(): Agent {
  return new Agent({ connections: 32, pipelining: 1 })
}
