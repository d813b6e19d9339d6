import { describe, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Hints, type ReceivedHint } from '../../src/cluster/Hints.ts'
import { openRedisConnection } from '../../src/cluster/RedisConnection.ts'
import { recordNamed, refTo } from '../store/records.ts'
import { eventually } from '../world.ts'
import { RedisProxy } from './RedisProxy.ts'
import { pause, startServer } from './world.ts'

const PREFIX = 'tether:'

async function openHints(url: string, replica: string, { readingUrl = url } = {}): Promise<Hints> {
  const connection = await openRedisConnection({ url })
  const hints = await Hints.open({ url: readingUrl, connection, prefix: PREFIX, replica, clock: systemClock })
  onTestFinished(async () => {
    await hints.close()
    await connection.close()
  })
  return hints
}

function hintNamed(name: string) {
  return { kind: 'ask', ref: refTo(recordNamed(name)) } as const
}

/** The names of what comes, in its order. */
function namesHeardBy(hints: Hints): string[] {
  const names: string[] = []
  hints.onHint(({ ref }) => names.push(ref.id.replace(/^job_0*/, '')))
  return names
}

/** Sends it until it is sent. */
async function insist(hints: Hints, replica: string, name: string): Promise<void> {
  await eventually(`${name} is sent`, () => hints.send(replica, hintNamed(name)))
}

describe('a hint', () => {
  test('reaches the one that it is for, at once, and nobody else', async () => {
    const server = await startServer()
    const [left, right, other] = [
      await openHints(server.url, 'left'),
      await openHints(server.url, 'right'),
      await openHints(server.url, 'other'),
    ]
    const heard: ReceivedHint[] = []
    right.onHint((hint) => heard.push(hint))
    const stray = [...namesHeardBy(left), ...namesHeardBy(other)]
    const ref = refTo(recordNamed('a', { tenant: 'a:b%\n' }))
    // A read is under way.
    await pause(20)
    const beganMs = performance.now()
    expect(await left.send('right', { kind: 'ask', ref })).toBe(true)
    await eventually('it is heard', () => heard.length > 0)
    expect(performance.now() - beganMs).toBeLessThan(500)
    expect(heard).toEqual([{ kind: 'ask', ref, from: 'left' }])
    expect(stray).toEqual([])
    expect(right.unreadForMs).toBeLessThan(1500)
  })

  test('that was read does not stay in Redis', async () => {
    const server = await startServer()
    const [left, right] = [await openHints(server.url, 'left'), await openHints(server.url, 'right')]
    const names = namesHeardBy(right)
    const length = () => server.run('XLEN', 'tether:hints:right')
    await Promise.all(Array.from({ length: 250 }, (_, n) => left.send('right', hintNamed(`n${n}`))))
    await eventually('they are heard', () => names.length === 250)
    // The last one says where its reader is.
    await expect.poll(length, { timeout: 10_000 }).toBe(1)
    expect(await left.send('right', hintNamed('later'))).toBe(true)
    await eventually('it is heard', () => names.at(-1) === 'later')
    expect(names).toHaveLength(251)
  })

  test('to oneself is not sent, and one from oneself is dropped', async () => {
    const server = await startServer()
    const [left, right] = [await openHints(server.url, 'left'), await openHints(server.url, 'right')]
    const names = namesHeardBy(left)
    expect(await left.send('left', hintNamed('own'))).toBe(false)
    expect(await server.run('EXISTS', 'tether:hints:left')).toBe(0)
    const fields = ['kind', 'ask', 'ref', 'default:job_00mine', 'number', '1']
    await server.run('XADD', 'tether:hints:left', '*', ...fields, 'from', 'left')
    // Nor what a later version may say.
    await server.run('XADD', 'tether:hints:left', '*', ...fields, 'from', 'right', 'kind', 'later')
    await server.run('XADD', 'tether:hints:left', '*', 'x', 'y')
    await right.send('left', hintNamed('last'))
    await eventually('it is heard', () => names.length > 0)
    expect(names).toEqual(['last'])
  })

  test('is handled once by a handler that was handed over twice, and no more after its undo', async () => {
    const server = await startServer()
    const [left, right] = [await openHints(server.url, 'left'), await openHints(server.url, 'right')]
    let handled = 0
    const handler = (): void => {
      handled += 1
    }
    right.onHint(handler)
    const undo = right.onHint(handler)
    const names = namesHeardBy(right)
    await left.send('right', hintNamed('a'))
    await eventually('it is heard', () => names.length === 1)
    undo()
    await left.send('right', hintNamed('b'))
    await eventually('it is heard', () => names.length === 2)
    expect(handled).toBe(1)
  })

  test('that was taken out of the stream is missed by who comes to the next one', async () => {
    const server = await startServer()
    const [left, right] = [await openHints(server.url, 'left'), await openHints(server.url, 'right')]
    for (const name of ['a', 'b']) await left.send('right', hintNamed(name))
    await server.run('DEL', 'tether:hints:right')
    await left.send('right', hintNamed('c'))
    await left.send('other', hintNamed('d'))
    await left.send('right', hintNamed('e'))
    const names = namesHeardBy(right)
    await eventually('the rest is heard', () => names.length === 2)
    expect(right.counts).toEqual({ sent: 0, failed: 0, received: 2, lost: 2 })
    expect(left.counts).toEqual({ sent: 5, failed: 0, received: 0, lost: 0 })
    await server.kill()
    expect(await left.send('right', hintNamed('f'))).toBe(false)
    expect(left.counts).toMatchObject({ sent: 5, failed: 1 })
  })

  test('that nobody reads takes little memory, and goes in the end', async () => {
    const server = await startServer()
    const left = await openHints(server.url, 'left')
    for (let round = 0; round < 12; round += 1) {
      await Promise.all(Array.from({ length: 1000 }, () => left.send('gone', hintNamed('a'))))
    }
    expect(await server.run('XLEN', 'tether:hints:gone')).toBeLessThan(10_200)
    expect(await server.run('PTTL', 'tether:hints:gone')).toBeGreaterThan(3_500_000)
  })
})

describe('each hint that was sent is heard once, in order', () => {
  const NAMES = Array.from({ length: 200 }, (_, n) => `n${n}`)

  test('where connections are cut all the time', async () => {
    const server = await startServer()
    const [left, right] = [await openHints(server.url, 'left'), await openHints(server.url, 'right')]
    const names = namesHeardBy(right)
    for (const [n, name] of NAMES.entries()) {
      const sending = insist(left, 'right', name)
      if (n % 10 === 0) await server.run('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      await sending
      await pause(5)
    }
    await eventually('the last is heard', () => names.at(-1) === NAMES.at(-1))
    expect([...new Set(names)]).toEqual(NAMES)
    // One that was tried anew after `false` may have been sent before.
    expect(names.length).toBeLessThan(NAMES.length + 20)
  })

  test('where its answer was lost and it was sent again', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const [left, right] = [await openHints(proxy.url, 'left'), await openHints(server.url, 'right')]
    const names = namesHeardBy(right)
    proxy.silence()
    const sent = ['a', 'b', 'c'].map((name) => left.send('right', hintNamed(name)))
    await eventually('they are heard', () => names.length === 3)
    proxy.cut()
    expect(await Promise.all(sent)).toEqual([true, true, true])
    await insist(left, 'right', 'd')
    await eventually('the last is heard', () => names.at(-1) === 'd')
    expect(names).toEqual(['a', 'b', 'c', 'd'])
    expect(await server.run('XLEN', 'tether:hints:right')).toBe(7)
  })

  test.each([true, false])('where Redis was killed and started again (with its data: %s)', async (isDurable) => {
    const server = await startServer({ isDurable })
    const [left, right] = [await openHints(server.url, 'left'), await openHints(server.url, 'right')]
    const names = namesHeardBy(right)
    await insist(left, 'right', 'before')
    await eventually('it is heard', () => names.length === 1)
    await server.kill()
    expect(await left.send('right', hintNamed('never'))).toBe(false)
    await eventually('it is noticed', () => right.unreadForMs > 1500)
    await server.restart()
    await insist(left, 'right', 'after')
    await eventually('the last is heard', () => names.at(-1) === 'after')
    expect(names).toEqual(['before', 'after'])
    await eventually('it is read again', () => right.unreadForMs < 1000)
  })

  test('where the reader was cut off without a word', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const left = await openHints(server.url, 'left')
    const right = await openHints(server.url, 'right', { readingUrl: proxy.url })
    const names = namesHeardBy(right)
    await insist(left, 'right', 'before')
    await eventually('it is heard', () => names.length === 1)
    proxy.silence()
    for (const name of ['a', 'b']) await insist(left, 'right', name)
    await eventually('they are heard', () => names.length === 3)
    expect(names).toEqual(['before', 'a', 'b'])
  })

  test('where it was sent before the other was there', async () => {
    const server = await startServer()
    const left = await openHints(server.url, 'left')
    await left.send('right', hintNamed('early'))
    await left.send('right', hintNamed('later'))
    const names = namesHeardBy(await openHints(server.url, 'right'))
    await eventually('it is heard', () => names.length === 2)
    expect(names).toEqual(['early', 'later'])
  })
})

describe('a close', () => {
  test('leaves nothing open, and nothing is sent or heard after it', async () => {
    const server = await startServer()
    const connection = await openRedisConnection({ url: server.url })
    onTestFinished(() => connection.close())
    const before = String(await server.run('CLIENT', 'LIST')).split('\n').length
    const hints = await Hints.open({ url: server.url, connection, prefix: PREFIX, replica: 'left', clock: systemClock })
    const names = namesHeardBy(hints)
    await Promise.all([hints.close(), hints.close()])
    const right = await openHints(server.url, 'right')
    await right.send('left', hintNamed('a'))
    expect(await hints.send('right', hintNamed('a'))).toBe(false)
    await right.close()
    // That of `right` for sending.
    expect(String(await server.run('CLIENT', 'LIST')).split('\n')).toHaveLength(before + 1)
    expect(names).toEqual([])
  })

  test('settles at once while Redis is away', async () => {
    const server = await startServer()
    const hints = await openHints(server.url, 'left')
    await server.kill()
    await eventually('it is noticed', () => hints.unreadForMs > 1100)
    const beganMs = performance.now()
    await hints.close()
    expect(performance.now() - beganMs).toBeLessThan(300)
  })
})
