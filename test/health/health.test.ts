import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { StoreError } from '../../src/store/JobStore.ts'
import { openSmallDisk } from '../outages/SmallDisk.ts'
import { ask, startJob } from '../server/requests.ts'
import { eventually, Gate, HeldStore, openWorld, taskOf } from '../world.ts'

interface Shown {
  readonly name: string
  readonly ok: boolean
  readonly [figure: string]: unknown
}

async function checksAt(
  url: string,
  path = '/health/ready',
): Promise<{ readonly status: number; readonly checks: Readonly<Record<string, Shown>> }> {
  const { status, text } = await ask(url, path)
  const { checks }: { checks: Shown[] } = JSON.parse(text)
  return { status, checks: Object.fromEntries(checks.map((check) => [check.name, check])) }
}

function isAnyNumber(): unknown {
  return expect.any(Number)
}

describe('/health/ready', () => {
  test('has a figure of everything that it looked at', async () => {
    const { url } = await openWorld({ settings: { MAX_ABANDONED: '3' } })
    const measured = await eventually('the loop was measured', async () => {
      const { checks } = await checksAt(url)
      return checks['event_loop']?.['p99Ms'] !== undefined && checks
    })
    expect(Object.keys(measured)).toEqual(['store', 'disk', 'event_loop', 'containment', 'stuck', 'draining'])
    expect(measured).toMatchObject({
      store: { ok: true, tookMs: isAnyNumber() },
      disk: { ok: true, freeBytes: isAnyNumber(), totalBytes: isAnyNumber(), neededBytes: isAnyNumber() },
      event_loop: { ok: true, p50Ms: isAnyNumber(), p99Ms: isAnyNumber(), maxMs: isAnyNumber() },
      containment: { ok: true, level: 'group', complete: false },
      stuck: { ok: true, stuck: 0, maxAbandoned: 3 },
      draining: { ok: true },
    })
  })

  test('is 503 with more stuck functions than MAX_ABANDONED, and 200 when one has settled', async () => {
    const gates = [new Gate(), new Gate()]
    let begun = 0
    const deaf = taskOf('deaf', async () => {
      const gate = gates[begun]
      begun += 1
      await gate?.opened
    })
    const { url } = await openWorld({ tasks: [deaf], settings: { MAX_ABANDONED: '1' } })
    for (const jobId of ['job-deaf-1', 'job-deaf-2']) {
      await startJob(url, { task: 'deaf', jobId, settleMs: 100 })
      await ask(url, `/jobs/${jobId}/cancel?wait=10`, { body: {} })
      const { status, checks } = await checksAt(url)
      const isFirst = jobId === 'job-deaf-1'
      expect(status).toBe(isFirst ? 200 : 503)
      expect(checks['stuck']).toMatchObject({ ok: isFirst, stuck: isFirst ? 1 : 2, maxAbandoned: 1 })
    }
    gates[0]?.open()
    await eventually('it is ready', async () => (await checksAt(url)).status === 200)
    gates[1]?.open()
    await eventually('none is stuck', async () => (await checksAt(url)).checks['stuck']?.['stuck'] === 0)
  })

  test('is 503 where the store takes no probe, and says why', async () => {
    let isBroken = false
    const { url } = await openWorld({
      wrapStore: (own) => {
        const store = new HeldStore(own)
        store.check = () => (isBroken ? Promise.reject(new StoreError('disk I/O error')) : own.check())
        return store
      },
    })
    isBroken = true
    const { status, checks } = await checksAt(url)
    expect(status).toBe(503)
    expect(checks['store']).toEqual({ name: 'store', ok: false, detail: 'disk I/O error' })
  })

  test('is 503 while the disk is as good as full, though the store still writes', async ({ skip }) => {
    const disk = (await openSmallDisk(64)) ?? skip('only root may make a disk')
    const { url } = await openWorld({ dataDir: disk.folder })
    expect((await checksAt(url)).checks['disk']).toMatchObject({ ok: true })
    disk.fill(2 * 1024 * 1024)
    const full = await eventually('it shows', async () => {
      const found = await checksAt(url)
      return found.status === 503 && found
    })
    expect(full.checks['disk']).toMatchObject({ ok: false, neededBytes: Math.floor(0.05 * 64 * 1024 * 1024) })
    expect(full.checks['store']).toMatchObject({ ok: true })
    disk.empty()
    await eventually('it is ready', async () => (await checksAt(url)).status === 200)
  })

  test('is 503 while nothing would end the processes of jobs if the server died', async () => {
    const { url } = await openWorld()
    process.kill(guardianPid(), 'SIGKILL')
    await eventually('it shows', async () => (await checksAt(url)).checks['containment']?.ok === false)
    await eventually('another is there', async () => (await checksAt(url)).status === 200)
  })

  test('asks the store once for all who ask within a second', async () => {
    let checks = 0
    const { url } = await openWorld({
      wrapStore: (own) => {
        const store = new HeldStore(own)
        store.check = () => {
          checks += 1
          return own.check()
        }
        return store
      },
    })
    const before = checks
    const beganMs = performance.now()
    await Promise.all(Array.from({ length: 200 }, () => ask(url, '/health/ready')))
    const seconds = Math.ceil((performance.now() - beganMs) / 1000)
    expect(checks - before).toBeGreaterThan(0)
    expect(checks - before).toBeLessThanOrEqual(seconds)
  })

  test('tells nobody without the token more than that', async () => {
    const API_TOKEN = 'a-token-of-thirty-two-characters'
    const { url } = await openWorld({ settings: { API_TOKEN } })
    expect((await ask(url, '/health/ready')).json).toEqual({ ready: true })
    expect((await ask(url, '/health/live')).json).toEqual({ live: true })
    const headers = { authorization: `Bearer ${API_TOKEN}` }
    expect((await ask(url, '/health/ready', { headers })).json['checks']).toHaveLength(6)
  })
})

test('/health/live says how the loop does, and lives on while the server is not ready', async () => {
  let store: HeldStore | undefined
  const { url, health } = await openWorld({
    wrapStore: (own) => {
      store = new HeldStore(own)
      return store
    },
  })
  store?.holdCommits(() => Promise.reject(new StoreError('disk I/O error')))
  await startJob(url, { task: 'ticks', input: { count: 1, intervalMs: 0 } }).catch(() => undefined)
  expect((await health.ready()).isReady).toBe(false)
  const { status, checks } = await checksAt(url, '/health/live')
  expect(status).toBe(200)
  expect(checks).toMatchObject({ process: { ok: true, uptimeS: isAnyNumber() }, event_loop: { ok: true } })
  store?.holdCommits(undefined)
})

/** Of this process's server: a guardian bears the pid in its command line. */
function guardianPid(): number {
  const found = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .find((pid) => commandLineOf(pid).includes(`tether-guardian\0${process.pid}-`))
  if (found === undefined) throw new Error('there is no guardian')
  return Number(found)
}

/** A process may end while it is looked at. */
function commandLineOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
