import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { BLOCKED, BlockingServer, FIXTURE, lineMarked } from './BlockingServer.ts'

test('a loop that blocks is named with file, line, function and job while it does, and told once more when it is over', async () => {
  const server = await BlockingServer.start()
  const file = server.file()
  const jobId = await server.run('spin', { file })

  // The loop only ends once the file is there, so this line came while it was blocked.
  const blocked = await server.placed(jobId)
  const place = { task: 'spin', file: FIXTURE, line: lineMarked('spins here'), function: 'spinUntil' }
  expect(blocked).toMatchObject({ level: 40, jobIds: [jobId], ...place })
  expect(blocked.ms).toBeGreaterThanOrEqual(1000)
  expect(blocked.replica).toMatch(/^tether-/)
  // Where another timer is due in the same turn, Node goes on with promises between the two, inside its own code.
  expect(blocked.stack?.filter((frame) => !frame.includes('(node:')).at(-1)).toContain(FIXTURE)

  server.release(file)
  const over = await server.over(jobId)
  expect(over).toMatchObject({ level: 40, jobIds: [jobId], ...place })
  expect(over.ms).toBeGreaterThanOrEqual(blocked.ms ?? 0)
  expect(server.told).toHaveLength(2)
})

test('native code that cannot be paused is told without a place, which comes when it returns', async () => {
  const server = await BlockingServer.start()
  const file = server.file()
  const jobId = await server.run('native', { file })

  const blocked = await server.until((line) => line.msg === BLOCKED)
  expect(blocked).toMatchObject({ jobIds: [jobId], noPlace: expect.stringContaining('native code') })
  expect(blocked).not.toHaveProperty('file')

  server.release(file)
  const over = await server.over(jobId)
  const line = lineMarked('in native code here')
  expect(over).toMatchObject({ file: FIXTURE, line, function: 'waitInNativeCode', isApproximate: true })
  expect(over).not.toHaveProperty('noPlace')
  // The pause may get through just before the loop turns: then the place is told as that of a block that goes on, too.
  for (const told of server.told) expect(told).toMatchObject({ line, isApproximate: true })
})

test('a place that comes late is told at once where the block goes on', async () => {
  const server = await BlockingServer.start()
  const [first, second] = [server.file(), server.file()]
  const jobId = await server.run('native-then-spin', { first, second })
  await server.until((line) => line.noPlace !== undefined)

  server.release(first)
  expect(await server.placed(jobId)).toMatchObject({ file: FIXTURE, isApproximate: true })

  server.release(second)
  await server.over(jobId)
  expect(server.told).toHaveLength(2)
})

test('a wait for shared memory is paused like a loop, and goes on waiting', async () => {
  const server = await BlockingServer.start()
  const jobId = await server.run('memory', { ms: 3000 })
  const blocked = await server.placed(jobId)
  const line = lineMarked('waits for memory here')
  expect(blocked).toMatchObject({ task: 'memory', file: FIXTURE, line, function: 'waitForMemory' })
  expect((await server.over(jobId)).ms).toBeGreaterThan(blocked.ms ?? 0)
})

test('each block is told of', async () => {
  const server = await BlockingServer.start()
  for (const times of [1, 2, 3]) {
    const file = server.file()
    const jobId = await server.run('spin', { file })
    await server.placed(jobId)
    server.release(file)
    await server.over(jobId)
    expect(server.told).toHaveLength(2 * times)
  }
})

test('a server that is busy with many short tasks raises nothing', async () => {
  const server = await BlockingServer.start()
  const ids = await Promise.all(Array.from({ length: 300 }, () => server.run('short', { ms: 4 })))
  for (const id of ids) await server.until((line) => line.jobId === id && line.msg === 'settled')
  expect(server.lines.filter(({ msg }) => msg === BLOCKED)).toEqual([])
})

test('a server that was suspended raises nothing, and is watched on', async () => {
  const server = await BlockingServer.start()
  const waiting = server.file()
  await server.run('wait', { file: waiting })
  if (process.platform === 'linux') await expect.poll(() => threadsOf(server)).toContain('tether-watchdog')

  server.process.kill('SIGSTOP')
  // That this time passes is what is tested.
  await new Promise((resolve) => setTimeout(resolve, 2500))
  server.process.kill('SIGCONT')

  const spinning = server.file()
  const jobId = await server.run('spin', { file: spinning })
  await server.placed(jobId)
  server.release(spinning)
  await server.over(jobId)
  expect(server.told.map((line) => line.jobId)).toEqual([jobId, jobId])
  server.release(waiting)
})

test('time in which a blocked server was suspended is not counted', async () => {
  const server = await BlockingServer.start()
  const file = server.file()
  const jobId = await server.run('spin', { file })
  const blocked = await server.placed(jobId)
  const atMs = performance.now()
  server.process.kill('SIGSTOP')
  await new Promise((resolve) => setTimeout(resolve, 2500))
  server.process.kill('SIGCONT')
  server.release(file)
  const over = await server.over(jobId)
  expect(over.ms).toBeLessThan((blocked.ms ?? 0) + performance.now() - atMs - 1500)
})

test.runIf(process.platform === 'linux')(
  'the thread comes with the first job, and does not keep the process alive',
  async () => {
    const server = await BlockingServer.start()
    expect(threadsOf(server)).not.toContain('tether-watchdog')
    const file = server.file()
    await server.run('wait', { file })
    await expect.poll(() => threadsOf(server)).toContain('tether-watchdog')
    server.process.kill('SIGTERM')
    // Nothing calls `process.exit` there.
    expect(await once(server.process, 'exit')).toEqual([0, null])
  },
)

function threadsOf(server: BlockingServer): string[] {
  const tasks = `/proc/${server.process.pid}/task`
  return readdirSync(tasks).map((id) => readFileSync(`${tasks}/${id}/comm`, 'utf8').trim())
}
