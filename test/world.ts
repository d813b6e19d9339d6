import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import Type from 'typebox'
import { onTestFinished } from 'vitest'
import type { Clock } from '../src/clock.ts'
import { readConfig } from '../src/config.ts'
import { type FrameSink } from '../src/eventlog/JobReader.ts'
import { defineTask, type TaskContext, type TaskDefinition } from '../src/execution/task.ts'
import type { JobEvent } from '../src/job/event.ts'
import type { Json } from '../src/job/json.ts'
import { DEFAULT_TENANT, type JobRef } from '../src/job/key.ts'
import type { JobView } from '../src/job/view.ts'
import type { EndAnswer, EndRequest } from '../src/jobs/ending.ts'
import type { Holder } from '../src/jobs/Holder.ts'
import type { JobSpec } from '../src/jobs/JobSpec.ts'
import type { StartRequest } from '../src/jobs/JobStarter.ts'
import type { Authenticate } from '../src/server/access/Identity.ts'
import type { ChangeResult, JobStore, StoreChange } from '../src/store/JobStore.ts'
import { openTether, type Tether } from '../src/tether.ts'

export const CALLER = { tenant: DEFAULT_TENANT, subject: 'test' }

export interface WorldOptions {
  /** As environment variables; DATA_DIR, PORT and CONTAINMENT have defaults of their own here. */
  readonly settings?: Readonly<Record<string, string>>
  readonly tasks?: readonly TaskDefinition[]
  readonly clock?: Clock
  readonly wrapStore?: (store: JobStore) => JobStore
  /** Kept when the world ends; default: a new folder that goes with it. */
  readonly dataDir?: string
  readonly storePatienceMs?: number
  readonly authenticate?: Authenticate
  /** Gets the lines of the log. Default: there are none. */
  readonly onLog?: (line: string) => void
}

/** A whole server on a port of its own, with real sockets, processes and files, which ends with the test. */
export async function openWorld(options: WorldOptions = {}): Promise<Tether> {
  const dataDir = options.dataDir ?? (await temporaryFolder())
  const config = readConfig({
    PORT: '0',
    DATA_DIR: dataDir,
    CONTAINMENT: 'group',
    LOG_LEVEL: 'silent',
    ...options.settings,
  })
  const tether = await openTether({
    config,
    logger:
      options.onLog === undefined ? pino({ level: 'silent' }) : pino({ level: 'trace' }, { write: options.onLog }),
    serverEnv: process.env,
    cwd: dataDir,
    tasks: options.tasks ?? [],
    ...(options.clock === undefined ? {} : { clock: options.clock }),
    ...(options.authenticate === undefined ? {} : { authenticate: options.authenticate }),
    ...(options.storePatienceMs === undefined ? {} : { storePatienceMs: options.storePatienceMs }),
    ...(options.wrapStore === undefined ? {} : { wrapStore: options.wrapStore }),
  })
  onTestFinished(() => tether.stop())
  return tether
}

/** A folder that is removed after the test, once everything that was opened later has ended. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tether-test-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A task whose function is `run` and that takes any input. */
export function taskOf(
  name: string,
  run: (ctx: TaskContext, input: Json) => Promise<Json | undefined | void>,
): TaskDefinition {
  return defineTask({ name, input: Type.Unsafe<Json>({}), run })
}

/** The start of a job with everything at its default. */
export function startOf(
  task: string,
  input: Json,
  more: Partial<Omit<JobSpec, 'task' | 'input'>> & {
    holder?: Holder
    fingerprint?: string
    idempotencyKey?: string
  } = {},
): StartRequest {
  const { holder, fingerprint = JSON.stringify([task, input]), idempotencyKey, ...spec } = more
  return {
    spec: { task, input, policy: {}, metadata: {}, ...spec },
    fingerprint,
    caller: CALLER,
    ...(holder === undefined ? {} : { holder }),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
  }
}

export function end(
  tether: Tether,
  ref: JobRef,
  kind: 'cancel' | 'stop',
  more: Partial<EndRequest> = {},
): Promise<EndAnswer> {
  return tether.jobs.end(ref, { kind, reason: '', caller: CALLER, ifUnknown: 'reject', waitMs: 0, ...more })
}

/** Every event of a job's log, in order, read to its end. */
export async function eventsOf(tether: Tether, ref: JobRef): Promise<JobEvent[]> {
  const text = Promise.withResolvers<string>()
  let frames = ''
  const write = (chunk: string | Buffer): boolean => {
    frames += chunk.toString()
    return true
  }
  const sink: FrameSink = {
    write,
    writePage: write,
    pageBytes: 64 * 1024,
    end: () => text.resolve(frames),
    fail: (error) => text.reject(error),
  }
  const { reader } = await tether.jobs.attach(ref, { after: 0, named: true, sink })
  reader.start()
  return parseFrames(await text.promise)
}

export function parseFrames(text: string): JobEvent[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('data: '))
    .map((line): JobEvent => JSON.parse(line.slice('data: '.length)))
}

export function typesOf(events: readonly JobEvent[]): string[] {
  return events.map((event) => event.type)
}

/** Polls until `look` gives something; the deadline is a test's, so that a hang names what was waited for. */
export async function eventually<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  deadlineMs = 10_000,
): Promise<T> {
  const deadline = performance.now() + deadlineMs
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    if (performance.now() > deadline) throw new Error(`${what}: still not so after ${deadlineMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

export async function untilRunning(tether: Tether, ref: JobRef): Promise<JobView> {
  return eventually(`${ref.id} runs`, async () => {
    const view = await tether.jobs.job(ref)
    return view.status === 'running' && tether.orchestrator.getActiveExecutionCount() > 0 && view
  })
}

/** Something that opens once. */
export class Gate {
  readonly #opened = Promise.withResolvers<void>()
  readonly opened = this.#opened.promise

  open(): void {
    this.#opened.resolve()
  }
}

/** A store whose commits can be held back, seen and made to fail; reads go through. */
export class HeldStore implements JobStore {
  readonly #store: JobStore
  /** Commits that were asked for, in order, whether or not they have gone through. */
  readonly asked: (readonly StoreChange[])[] = []
  #hold: ((changes: readonly StoreChange[]) => Promise<void>) | undefined

  constructor(store: JobStore) {
    this.#store = store
  }

  /** From now on each commit waits for what `hold` gives; undefined lets them through. */
  holdCommits(hold: ((changes: readonly StoreChange[]) => Promise<void>) | undefined): void {
    this.#hold = hold
  }

  async commit(changes: readonly StoreChange[]): Promise<readonly ChangeResult[]> {
    this.asked.push(changes)
    await this.#hold?.(changes)
    return this.#store.commit(changes)
  }

  lookup: JobStore['lookup'] = (ref) => this.#store.lookup(ref)
  lookupKinds: JobStore['lookupKinds'] = (refs) => this.#store.lookupKinds(refs)
  findByIdempotencyKey: JobStore['findByIdempotencyKey'] = (tenant, key) =>
    this.#store.findByIdempotencyKey(tenant, key)
  list: JobStore['list'] = (filter) => this.#store.list(filter)
  findListed: JobStore['findListed'] = (ref) => this.#store.findListed(ref)
  countEnded: JobStore['countEnded'] = (tenant, group) => this.#store.countEnded(tenant, group)
  listActive: JobStore['listActive'] = () => this.#store.listActive()
  listEndedBefore: JobStore['listEndedBefore'] = (time, limit) => this.#store.listEndedBefore(time, limit)
  readEvents: JobStore['readEvents'] = (ref, after, maxBytes) => this.#store.readEvents(ref, after, maxBytes)
  listRequests: JobStore['listRequests'] = (ref, page) => this.#store.listRequests(ref, page)
  listTombstones: JobStore['listTombstones'] = () => this.#store.listTombstones()
  getValue: JobStore['getValue'] = (tenant, task, key) => this.#store.getValue(tenant, task, key)
  listValueKeys: JobStore['listValueKeys'] = (tenant, task, page) => this.#store.listValueKeys(tenant, task, page)
  check: JobStore['check'] = () => this.#store.check()
  close: JobStore['close'] = () => this.#store.close()
}
