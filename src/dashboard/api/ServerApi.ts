import { ServerUnreachable, TetherApiError } from '../../client/error.ts'
import type { Json } from '../../job/json.ts'
import type { JobPolicy } from '../../job/policy.ts'
import type { NumberedRequest } from '../../job/request.ts'
import type { JobView } from '../../job/view.ts'
import type { Health } from './Health.ts'
import type { TaskView } from './TaskView.ts'

/** A job to start. What is left out takes the server's default. */
export interface StartSpec extends Partial<JobPolicy> {
  readonly task: string
  readonly input: Json
  readonly jobId: string
}

export interface JobQuery {
  readonly status?: string
  readonly task?: string
  readonly parent?: string
  readonly cursor?: string
}

export interface JobPage {
  readonly jobs: readonly JobView[]
  readonly nextCursor: string | null
}

export interface FileView {
  readonly path: string
  readonly bytes: number
}

/** What was asked of a job; `at` is ISO 8601. */
export interface RequestView extends Omit<NumberedRequest, 'at'> {
  readonly at: string
}

/** The most that the server gives at once (protocol, section 3). */
const PAGE_JOBS = 200
const PAGE_REQUESTS = 200

/**
 * What the page asks of its server, below the same path as the page itself. Every method rejects with `TetherApiError` where it refuses and `ServerUnreachable` where it
 * does not answer as one; a signal that fires rejects with its reason.
 */
export class ServerApi {
  readonly #onUnauthorized: () => void

  /** `onUnauthorized` is told of every answer that asks for a token. */
  constructor(onUnauthorized: () => void) {
    this.#onUnauthorized = onUnauthorized
  }

  job(id: string, signal: AbortSignal): Promise<JobView> {
    return this.#ask<JobView>(`jobs/${id}`, { signal })
  }

  /** Newest first. */
  jobs(query: JobQuery, signal: AbortSignal): Promise<JobPage> {
    return this.#ask<JobPage>(`jobs?${new URLSearchParams({ limit: String(PAGE_JOBS), ...query })}`, { signal })
  }

  async tasks(signal: AbortSignal): Promise<readonly TaskView[]> {
    return (await this.#ask<{ tasks: readonly TaskView[] }>('tasks', { signal })).tasks
  }

  async files(id: string, signal: AbortSignal): Promise<readonly FileView[]> {
    return (await this.#ask<{ files: readonly FileView[] }>(`jobs/${id}/files`, { signal })).files
  }

  /** Oldest first, and no more than the first so many. */
  async requests(id: string, signal: AbortSignal): Promise<readonly RequestView[]> {
    const path = `jobs/${id}/requests?limit=${PAGE_REQUESTS}`
    return (await this.#ask<{ requests: readonly RequestView[] }>(path, { signal })).requests
  }

  /** Also where the server is not ready, which is an answer and no refusal. */
  async health(signal: AbortSignal): Promise<Health> {
    const response = await this.#send('health/ready', { signal })
    if (response.status !== 200 && response.status !== 503) throw await this.#refusalOf(response)
    return readJson<Health>(response)
  }

  /** Starts a job that nobody holds. */
  start(spec: StartSpec): Promise<JobView> {
    return this.#ask<JobView>('jobs', bodyOf('POST', spec))
  }

  /** Starts a job and holds it: its events, for as long as `signal` does not fire. */
  startHeld(spec: StartSpec, signal: AbortSignal): Promise<Response> {
    return this.#stream('execute/stream', { ...bodyOf('POST', spec), signal })
  }

  end(id: string, kind: 'stop' | 'cancel'): Promise<JobView> {
    return this.#ask<JobView>(`jobs/${id}/${kind}`, bodyOf('POST', { reason: 'asked for on the dashboard' }))
  }

  /** From now on nothing becomes of the job when its last holder leaves. */
  detach(id: string): Promise<JobView> {
    return this.#ask<JobView>(`jobs/${id}`, bodyOf('PATCH', { onDisconnect: 'continue' }))
  }

  /** The events of a job after `after`, then what comes. */
  events(id: string, query: { readonly after: number; readonly hold?: true }, signal: AbortSignal): Promise<Response> {
    const { after, hold } = query
    return this.#stream(`jobs/${id}/events?after=${after}${hold === true ? '&hold=true' : ''}`, { signal })
  }

  /** The changes of status of all jobs, without replay. */
  feed(signal: AbortSignal): Promise<Response> {
    return this.#stream('jobs/events', { signal })
  }

  /** There is none (404) where nothing is asked for, and 401 where something else than a token says who asks. */
  async hasLoginPage(signal: AbortSignal): Promise<boolean> {
    const { status } = await this.#send('login', { signal })
    return status !== 404 && status !== 401
  }

  /** Ends the login that let the page in. */
  async logOut(): Promise<void> {
    const response = await this.#send('logout', { method: 'POST', body: new URLSearchParams() })
    if (!response.ok) throw await this.#refusalOf(response)
  }

  async #ask<T extends object>(path: string, init: RequestInit): Promise<T> {
    const response = await this.#send(path, init)
    if (!response.ok) throw await this.#refusalOf(response)
    return readJson<T>(response)
  }

  async #stream(path: string, init: RequestInit): Promise<Response> {
    const response = await this.#send(path, init)
    if (response.status === 204) return response
    if (!response.ok) throw await this.#refusalOf(response)
    if (response.headers.get('content-type')?.startsWith('text/event-stream') === true) return response
    await response.body?.cancel()
    throw notOurs(response)
  }

  async #send(path: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(path, { cache: 'no-store', ...init })
    } catch (error) {
      init.signal?.throwIfAborted()
      // What a browser says of a connection that could not be made, or broke before the head: it tells no more.
      throw error instanceof TypeError ? new ServerUnreachable('the server does not answer', { cause: error }) : error
    }
  }

  async #refusalOf(response: Response): Promise<Error> {
    const body = await readJson<{ code?: unknown; message?: unknown }>(response)
    if (typeof body.code !== 'string' || typeof body.message !== 'string') return notOurs(response)
    if (response.status === 401) this.#onUnauthorized()
    const retryAfter = response.headers.get('retry-after')
    return new TetherApiError(
      response.status,
      body.code,
      body.message,
      retryAfter === null || !/^\d+$/.test(retryAfter) ? undefined : Number(retryAfter),
    )
  }
}

function bodyOf(method: string, body: object): RequestInit {
  return { method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
}

/** The shape is the server's promise (protocol, section 3). */
async function readJson<T extends object>(response: Response): Promise<T> {
  try {
    const value: unknown = await response.json()
    if (typeof value !== 'object' || value === null) throw notOurs(response)
    return value as T
  } catch (error) {
    // No JSON, or the connection broke within it.
    if (error instanceof SyntaxError || error instanceof TypeError) throw notOurs(response)
    throw error
  }
}

function notOurs({ status }: Response): ServerUnreachable {
  return new ServerUnreachable(`the server answered ${status}, and not as a Tether server does`)
}
