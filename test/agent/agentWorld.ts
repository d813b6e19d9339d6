import type { JobEvent } from '../../src/job/event.ts'
import type { JobView } from '../../src/job/view.ts'
import type { Tether } from '../../src/tether.ts'
import { jobOf, startJob } from '../server/requests.ts'
import { eventually, openWorld, parseFrames, type WorldOptions } from '../world.ts'
import { FakeModelServer } from './FakeModelServer.ts'

export type Shape = 'openai' | 'anthropic'

export const SHAPES: readonly Shape[] = ['openai', 'anthropic']

export const KEY = 'sk-a-secret-key-of-the-server'

/** The settings with which a server asks this model server. */
export function settingsFor(model: FakeModelServer, shape: Shape = 'openai'): Readonly<Record<string, string>> {
  return shape === 'openai'
    ? { OPENAI_BASE_URL: model.baseUrl, OPENAI_API_KEY: KEY, MODEL: 'openai:fake' }
    : { ANTHROPIC_BASE_URL: model.baseUrl, ANTHROPIC_API_KEY: KEY, MODEL: 'anthropic:fake' }
}

export interface AgentWorld {
  readonly model: FakeModelServer
  readonly tether: Tether
  readonly url: string
}

/** A server whose model is a fake one. */
export async function openAgents(options: WorldOptions = {}, shape: Shape = 'openai'): Promise<AgentWorld> {
  const model = await FakeModelServer.start()
  const tether = await openWorld({ ...options, settings: { ...settingsFor(model, shape), ...options.settings } })
  return { model, tether, url: tether.url }
}

export interface AgentStart {
  readonly prompt?: string
  readonly task?: string
  readonly input?: object | null
  readonly [policy: string]: unknown
}

/** Starts a job over HTTP: an agent, unless it names another task. */
export async function startAgent(url: string, start: AgentStart = {}): Promise<string> {
  const { prompt = 'Do it.', task = 'agent', input, ...policy } = start
  const { id } = await startJob(url, { task, input: input === undefined ? { prompt } : input, ...policy })
  return id
}

/** The job once it has ended. */
export async function ended(url: string, id: string): Promise<JobView> {
  return eventually(
    `${id} has ended`,
    async () => {
      const view = await jobOf(url, id)
      return view.terminal && view
    },
    20_000,
  )
}

/** Runs an agent to its end. */
export async function runAgent(url: string, start: AgentStart = {}): Promise<Ended> {
  const id = await startAgent(url, start)
  return { view: await ended(url, id), events: await logOf(url, id) }
}

export interface Ended {
  readonly view: JobView
  readonly events: readonly JobEvent[]
}

/** All events of a job that has ended, as its stream gives them. */
export async function logOf(url: string, id: string): Promise<readonly JobEvent[]> {
  const response = await fetch(`${url}/jobs/${id}/events`)
  return parseFrames(await response.text())
}

export async function untilEvent(url: string, id: string, wanted: (event: JobEvent) => boolean): Promise<void> {
  const abort = new AbortController()
  const response = await fetch(`${url}/jobs/${id}/events`, { signal: abort.signal })
  let text = ''
  try {
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk
      if (parseFrames(text.slice(0, text.lastIndexOf('\n\n') + 2)).some(wanted)) return
    }
  } finally {
    abort.abort()
  }
  throw new Error(`${id} ended before that came: ${text}`)
}

/** Settles when the job has begun a tool of this name. */
export function untilTool(url: string, id: string, tool: string): Promise<void> {
  return untilEvent(url, id, (event) => event.type === 'tool.started' && event.tool === tool)
}

/** All that was said on a channel. */
export function textOf(events: readonly JobEvent[], channel: string): string {
  return events.map((event) => (event.type === 'output' && event.channel === channel ? event.text : '')).join('')
}

/** Without outputs, whose borders are not promised. */
export function stepsOf(events: readonly JobEvent[]): string[] {
  return events.filter((event) => event.type !== 'output').map((event) => event.type)
}
