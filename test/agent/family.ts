import type { JobView } from '../../src/job/view.ts'
import { ask, jobOf } from '../server/requests.ts'
import { eventually } from '../world.ts'
import { calls, type FakeModelServer, type Reply, type SeenRequest } from './FakeModelServer.ts'

/** Lets agents hand their work on, as deep as the first one's prompt says; `reply` is what the last one of them hears. */
export function playDown(model: FakeModelServer, reply: (request: SeenRequest) => Reply): void {
  model.answers((request) => {
    const depth = Number(request.prompt)
    return depth > 1 ? calls(['sub_agent', { prompt: String(depth - 1) }]) : reply(request)
  })
}

export async function childrenOf(url: string, id: string): Promise<readonly JobView[]> {
  const { json } = await ask(url, `/jobs?parent=${id}&limit=100`)
  return Object(json['jobs'])
}

/** The job, its child, the child's child and so on, once there are so many. */
export async function lineOf(url: string, id: string, length: number): Promise<readonly JobView[]> {
  const line = [await jobOf(url, id)]
  while (line.length < length) {
    const parent = line.at(-1)?.id ?? id
    line.push(await eventually(`${parent} has a child`, async () => (await childrenOf(url, parent))[0]))
  }
  return line
}
