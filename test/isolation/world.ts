import type { JobEvent } from '../../src/job/event.ts'
import type { Json } from '../../src/job/json.ts'
import type { JobRef } from '../../src/job/key.ts'
import type { JobView } from '../../src/job/view.ts'
import type { JobSpec } from '../../src/jobs/JobSpec.ts'
import type { Tether } from '../../src/tether.ts'
import { availableLevels } from '../processes/world.ts'
import { eventsOf, eventually, openWorld, startOf, type WorldOptions } from '../world.ts'
import * as fixtures from './fixtures/tasks.ts'

/** The names of the levels that this machine gives: most tests run at each. */
export const levels = (await availableLevels()).map(({ level }) => level)

export const tasks = Object.values(fixtures)

/** A server with the tasks of `fixtures/tasks.ts`. */
export function openIsolated(level: string, options: WorldOptions = {}): Promise<Tether> {
  return openWorld({ tasks, ...options, settings: { CONTAINMENT: level, ...options.settings } })
}

export interface Ended {
  readonly view: JobView
  readonly events: readonly JobEvent[]
}

/** Runs a job to its end. */
export async function runJob(
  tether: Tether,
  task: string,
  input: Json = null,
  policy: JobSpec['policy'] = {},
): Promise<Ended> {
  const { ref } = await tether.jobs.start(startOf(task, input, { policy }))
  return outcomeOf(tether, ref)
}

export async function outcomeOf(tether: Tether, ref: JobRef): Promise<Ended> {
  const view = await tether.jobs.outcome(ref)
  return { view, events: await eventsOf(tether, ref) }
}

/** Starts a job and waits until its log has an output. */
export async function startUntilOutput(
  tether: Tether,
  task: string,
  input: Json = null,
  policy: JobSpec['policy'] = {},
): Promise<JobRef> {
  const { ref } = await tether.jobs.start(startOf(task, input, { policy }))
  await eventually(`${task} says something`, async () => (await tether.jobs.job(ref)).lastSeq > 2)
  return ref
}

/** All that was sent on a channel, in order. */
export function textOf(events: readonly JobEvent[], channel: string): string {
  return events.map((event) => (event.type === 'output' && event.channel === channel ? event.text : '')).join('')
}

export async function untilWarm(tether: Tether): Promise<number> {
  return eventually('a spare is warm', () => tether.spare.warmPid())
}
