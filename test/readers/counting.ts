import type { JobEvent } from '../../src/job/event.ts'
import type { Tether } from '../../src/tether.ts'
import { jobOf } from '../server/requests.ts'
import { eventually, parseFrames, taskOf } from '../world.ts'

export const ID = 'job-12345'
const COUNT = 300

/** Says numbers, a few every turn, for about two seconds: long enough for an EventSource to be cut off and come back. */
export const counts = taskOf('counts', async (ctx) => {
  for (let n = 0; n < COUNT; n += 1) {
    await ctx.output(`${n}\n`)
    if (n % 2 === 0) await ctx.progress(n)
    await ctx.sleep(8)
  }
})

/** Breaks of a stream after so many bytes of it; the first before its head is through. */
export const CUTS = [40, 3_000, 9_000, 20_000]

/** The whole log, once the job has ended. */
export async function logOf(tether: Tether): Promise<readonly JobEvent[]> {
  await eventually('the job has ended', async () => (await jobOf(tether.url, ID)).terminal)
  return parseFrames(await (await fetch(`${tether.url}/jobs/${ID}/events`)).text())
}
