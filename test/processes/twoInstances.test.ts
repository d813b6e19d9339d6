import { describe, expect, test } from 'vitest'
import type { JobView } from '../../src/job/view.ts'
import { bearing, dataFolder, goneAfterMs, RealServer } from './RealServer.ts'
import { availableLevels, until } from './world.ts'

const levels = await availableLevels()
const JOBS = 50
const DAEMON = 2

async function startJobs(server: RealServer, line: string): Promise<readonly JobView[]> {
  return Promise.all(Array.from({ length: JOBS }, () => server.startCommand(line)))
}

describe.each(levels)('two servers on one machine at the level $level', ({ level }) => {
  test('one is killed: all of its processes go, the other keeps all of its own and finishes', async () => {
    const dataDir = dataFolder()
    const options = { level, dataDir, settings: { CONCURRENCY: `${JOBS}` } }
    const [killed, other] = await Promise.all([
      RealServer.start(options),
      RealServer.start({ ...options, dataDir: dataFolder() }),
    ])
    if (killed === undefined || other === undefined) throw new Error(`the level ${level} was there a moment ago`)
    const doomed = `120.${killed.pid}71`
    const spared = `120.${other.pid}72`
    const line = (seconds: string) => `(setsid sh -c '(sleep ${seconds} &) &' &); exec sleep ${seconds}`
    const lost = await startJobs(killed, line(doomed))
    const kept = await startJobs(other, `setsid sleep ${spared} & sleep ${spared}; wait; echo done`)
    await until('all run', () => bearing(`sleep\0${doomed}`).length === JOBS * DAEMON, 20_000)
    await until('all run', () => bearing(`sleep\0${spared}`).length === JOBS * 2, 20_000)
    const untouched = bearing(`sleep\0${spared}`)

    const gone = goneAfterMs(doomed, 5000)
    await killed.kill('SIGKILL')
    const tookMs = await gone
    expect(bearing(doomed)).toEqual([])
    expect(bearing(`sleep\0${spared}`)).toEqual(untouched)
    expect(tookMs, 'within the deadline').toBeDefined()

    const again = await RealServer.start(options)
    if (again === undefined) throw new Error('the server did not start again')
    expect(bearing(`sleep\0${spared}`)).toEqual(untouched)
    for (const { id } of lost) expect((await again.job(id)).status).toBe('interrupted')
    // Their command goes on when its sleeps are over.
    for (const pid of untouched) process.kill(pid)
    for (const { id } of kept) {
      // Waits until the job has ended: the stream of its events does.
      await (await fetch(`${other.url}/jobs/${id}/events`)).text()
      expect((await other.job(id)).status).toBe('succeeded')
    }
  })
})
