import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import Type from 'typebox'
import { onTestFinished } from 'vitest'
import { browserTools } from '../../../src/execution/agent/browser/browserTools.ts'
import type { AgentTool, TaskContext, ToolAnswer } from '../../../src/execution/task.ts'
import type { JobEvent } from '../../../src/job/event.ts'
import type { Json } from '../../../src/job/json.ts'
import type { JobRef } from '../../../src/job/key.ts'
import type { ContainmentLevel } from '../../../src/job/receipt.ts'
import type { JobView } from '../../../src/job/view.ts'
import { allPids, isAlive, readStat } from '../../../src/resources/processes/procfs.ts'
import type { Tether } from '../../../src/tether.ts'
import { end, eventsOf, openWorld, startOf, taskOf, temporaryFolder, type WorldOptions } from '../../world.ts'

export const TOOLS: readonly AgentTool[] = await browserTools()
export const hasChromium = TOOLS.length > 0

type Answer = string | ((request: IncomingMessage, response: ServerResponse) => void)

export interface Site {
  readonly url: string
  /** What stands at each path. */
  readonly answers: Map<string, Answer>
  /** The paths that were asked for, in order. */
  readonly asked: readonly string[]
  /** From now on `path` is not answered: settles with the response to the first who asks. */
  hold(path: string): Promise<ServerResponse>
}

/** A web server with a page a path: HTML, or what answers. It ends with the test, however many wait for it. */
export async function openSite(answers: Readonly<Record<string, Answer>>): Promise<Site> {
  const asked: string[] = []
  const table = new Map(Object.entries(answers))
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    if (path !== '/favicon.ico') asked.push(path)
    const answer = table.get(path.split('?')[0] ?? '')
    if (typeof answer === 'function') return answer(request, response)
    response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'text/html; charset=utf-8' })
    response.end(answer ?? '<title>Nothing</title><p>There is nothing here.')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    answers: table,
    asked,
    hold: (path) => new Promise((resolve) => table.set(path, (_request, response) => resolve(response))),
  }
}

interface Call {
  readonly tool: AgentTool
  readonly input: Json
  readonly answer: PromiseWithResolvers<ToolAnswer>
}

interface BrowserWorld {
  readonly tether: Tether
  readonly dataDir: string
  /** The calls that each job is to make. */
  readonly queues: Queue[]
}

/** A job that calls browser tools as it is told, through `ctx.tool` as an agent does. */
export class BrowserJob {
  readonly tether: Tether
  readonly ref: JobRef
  readonly #world: BrowserWorld
  readonly #calls: Queue

  private constructor(world: BrowserWorld, ref: JobRef, calls: Queue) {
    this.tether = world.tether
    this.#world = world
    this.ref = ref
    this.#calls = calls
  }

  /** Settles when it has been started, in a world of its own. */
  static async start(options: WorldOptions & { readonly level?: ContainmentLevel } = {}): Promise<BrowserJob> {
    const dataDir = options.dataDir ?? (await temporaryFolder())
    const queues: Queue[] = []
    const tether = await openWorld({
      ...options,
      dataDir,
      settings: { CONTAINMENT: options.level ?? 'group', ...options.settings },
      tasks: [taskOf('browse', (ctx, index) => answerAll(ctx, queues[Number(index)] ?? new Queue()))],
    })
    return BrowserJob.#startIn({ tether, dataDir, queues })
  }

  static async #startIn(world: BrowserWorld): Promise<BrowserJob> {
    const queue = new Queue()
    const { ref } = await world.tether.jobs.start(startOf('browse', world.queues.push(queue) - 1))
    return new BrowserJob(world, ref, queue)
  }

  /** One more, in the same world. */
  another(): Promise<BrowserJob> {
    return BrowserJob.#startIn(this.#world)
  }

  /** One call of a tool. Rejects with what the job's function met: `JobStopped` after a cancel. */
  call(name: string, input: Json = {}): Promise<ToolAnswer> {
    const tool = toolNamed(name)
    const answer = Promise.withResolvers<ToolAnswer>()
    // A test that ends the job meanwhile may never look at it.
    answer.promise.catch(() => undefined)
    this.#calls.push({ tool, input, answer })
    return answer.promise
  }

  /** As `call`, for one that must succeed: its text. */
  async text(name: string, input: Json = {}): Promise<string> {
    const { text, ok } = await this.call(name, input)
    if (ok !== true) throw new Error(`browser_${name} failed: ${text}`)
    return text
  }

  /** As `call`, for one that must fail: its text. */
  async refusal(name: string, input: Json = {}): Promise<string> {
    const { text, ok } = await this.call(name, input)
    if (ok !== false) throw new Error(`browser_${name} did not fail: ${text}`)
    return text
  }

  /** Does `work` in the job's function. */
  inside<T>(work: (ctx: TaskContext) => Promise<T>): Promise<T> {
    const done = Promise.withResolvers<T>()
    const tool: AgentTool = {
      name: 'inside',
      description: '',
      input: Type.Object({}),
      async run(ctx) {
        await work(ctx).then(done.resolve, done.reject)
        return ''
      },
    }
    this.#calls.push({ tool, input: {}, answer: Promise.withResolvers<ToolAnswer>() })
    return done.promise
  }

  /** Lets its function return; settles with how it ended. */
  async finish(): Promise<JobView> {
    this.#calls.push(undefined)
    return this.tether.jobs.outcome(this.ref)
  }

  /** Settles with how it ended. */
  async end(kind: 'cancel' | 'stop'): Promise<JobView> {
    await end(this.tether, this.ref, kind)
    return this.tether.jobs.outcome(this.ref)
  }

  events(): Promise<JobEvent[]> {
    return eventsOf(this.tether, this.ref)
  }

  /** Living processes of its browser, what drives that included. */
  processes(): readonly number[] {
    return processesOf(this.ref.id)
  }

  /** The folder whose files stay with it. */
  get workspace(): string {
    const root = join(this.#world.dataDir, 'workspaces')
    const [name] = readdirSync(root).filter((name) => name.includes(this.ref.id))
    return join(root, name ?? 'not there')
  }

  /** Its temporary folders. */
  folders(): readonly string[] {
    const root = join(this.#world.dataDir, 'tmp')
    return existsSync(root) ? readdirSync(root).filter((name) => name.includes(this.ref.id)) : []
  }
}

export function toolNamed(name: string): AgentTool {
  const tool = TOOLS.find((tool) => tool.name === `browser_${name}`)
  if (tool === undefined) throw new Error(`there is no tool browser_${name}`)
  return tool
}

async function answerAll(ctx: TaskContext, queue: Queue): Promise<Json> {
  for (let call = await queue.next(ctx); call !== undefined; call = await queue.next(ctx)) {
    const { tool, input, answer } = call
    try {
      answer.resolve(await ctx.tool(tool.name, input, () => tool.run(ctx, input)))
    } catch (error) {
      answer.reject(error)
      ctx.checkpoint()
    }
  }
  return 'finished'
}

/** Calls in the order in which they are to be made; `undefined` is the end. */
class Queue {
  readonly #calls: (Call | undefined)[] = []
  #wake: (() => void) | undefined

  push(call: Call | undefined): void {
    this.#calls.push(call)
    this.#wake?.()
  }

  async next(ctx: TaskContext): Promise<Call | undefined> {
    while (this.#calls.length === 0) {
      ctx.checkpoint()
      const pushed = Promise.withResolvers<void>()
      this.#wake = pushed.resolve
      ctx.stopSignal.addEventListener('abort', pushed.reject, { once: true })
      await pushed.promise.finally(() => ctx.stopSignal.removeEventListener('abort', pushed.reject))
    }
    return this.#calls.shift()
  }
}

/** Living processes that were started in a folder of that job, or have one in their command line. */
export function processesOf(jobId: string): readonly number[] {
  return allPids().filter((pid) => pid !== process.pid && traces(pid).includes(jobId) && isAlive(readStat(pid)))
}

function traces(pid: number): string {
  try {
    return `${commandLine(pid)} ${readlinkSync(`/proc/${pid}/cwd`)}`
  } catch {
    // It ended between the listing and the look.
    return ''
  }
}

/** Empty where it is gone. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
