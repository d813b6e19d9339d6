import { describe, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { EventLog, type StoreHealth } from '../../src/eventlog/EventLog.ts'
import { type JobStore, type StoreChange, UncertainCommitError } from '../../src/store/JobStore.ts'
import { linesOf } from '../store/contract.ts'
import { append, batch, recordNamed, refTo, upTo } from '../store/records.ts'
import { RedisProxy } from './RedisProxy.ts'
import { openStore, startServer } from './world.ts'

const JOB = recordNamed('a')

function openLog(store: JobStore, patienceMs = 60_000) {
  const refused: string[] = []
  const healths: StoreHealth[] = []
  const log = new EventLog({ store, clock: systemClock, patienceMs, onRefused: (_, why) => refused.push(why) })
  log.onHealth((health) => healths.push(health))
  onTestFinished(() => log.close())
  const write = (change: StoreChange) =>
    new Promise<boolean>((resolve) => log.push({ change, settle: (isWritten) => resolve(isWritten) }))
  return { refused, healths, write }
}

/** A store whose connection can be cut, and one beside it that sees what was written. */
async function openPair() {
  const server = await startServer()
  const proxy = await RedisProxy.start(server.port)
  const [store, outside] = [await openStore(proxy.url), await openStore(server.url)]
  await store.commit(upTo(JOB, 'running').changes)
  return { proxy, store, outside }
}

describe('a commit whose answer is lost', () => {
  test('is written once and settles as written', async () => {
    const { proxy, store, outside } = await openPair()
    const { write, refused, healths } = openLog(store)
    proxy.losesAnswers = true
    const written = [write(append(JOB, 3)), write({ kind: 'delete', ref: refTo(recordNamed('b')), spentUntil: 1 })]
    await expect.poll(() => outside.lookup(JOB)).toMatchObject({ record: { lastSeq: 3 } })
    proxy.down()
    proxy.cut()
    await expect.poll(() => healths).toMatchObject([{ kind: 'failing' }])
    proxy.losesAnswers = false
    await proxy.up()
    expect(await Promise.all(written)).toEqual([true, false])
    expect(healths.at(-1)).toEqual({ kind: 'ok' })
    expect(await write(append(JOB, 4))).toBe(true)
    expect(refused).toEqual([])
    expect(await linesOf(store, JOB)).toEqual(batch(1, 4).lines.split('\n'))
  })

  test('is not withdrawn when the patience is over, since it may be written', async () => {
    const { proxy, store, outside } = await openPair()
    const { write, healths } = openLog(store, 1)
    proxy.losesAnswers = true
    const written = write({ kind: 'value', tenant: 'default', task: 't', key: 'k', json: '1' })
    await expect.poll(() => outside.getValue('default', 't', 'k')).toBe('1')
    proxy.down()
    proxy.cut()
    const uncertain = { error: expect.any(UncertainCommitError), isGivenUp: true }
    await expect.poll(() => healths).toContainEqual({ kind: 'failing', ...uncertain })
    proxy.losesAnswers = false
    await proxy.up()
    expect(await written).toBe(true)
  })
})

test('a commit that was cut off before it arrived is sent again', async () => {
  const { proxy, store } = await openPair()
  const { write, refused, healths } = openLog(store)
  proxy.holdsRequests = true
  const written = write(append(JOB, 3))
  await expect.poll(() => proxy.heldBytes).toBeGreaterThan(0)
  proxy.down()
  proxy.cut()
  await expect.poll(() => healths).toMatchObject([{ kind: 'failing' }])
  proxy.holdsRequests = false
  await proxy.up()
  expect(await written).toBe(true)
  proxy.deliver()
  expect(await write(append(JOB, 4))).toBe(true)
  expect(refused).toEqual([])
  expect(await linesOf(store, JOB)).toEqual(batch(1, 4).lines.split('\n'))
})
