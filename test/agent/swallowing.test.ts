import { describe, expect, onTestFinished, test } from 'vitest'
import type { TaskContext } from '../../src/execution/task.ts'
import { ask } from '../server/requests.ts'
import { eventually, taskOf } from '../world.ts'
import { ended, openAgents, startAgent } from './agentWorld.ts'
import { Origin } from './Origin.ts'

const BOUNDARIES: Readonly<Record<string, (ctx: TaskContext) => Promise<unknown>>> = {
  sleep: (ctx) => ctx.sleep(1000),
  exec: (ctx) => ctx.exec('true'),
  spawn: (ctx) => ctx.spawn('true'),
  fetch: (ctx) => ctx.fetch('http://127.0.0.1:4/'),
  model: (ctx) => ctx.model(),
  agent: (ctx) => ctx.agent({ prompt: 'x' }),
  tool: (ctx) => ctx.tool('x', null, async () => 'x'),
  run: (ctx) => ctx.run('ticks', { count: 0, intervalMs: 0 }),
  'store.get': (ctx) => ctx.store.get('x'),
  'store.put': (ctx) => ctx.store.put('x', 1),
  'store.delete': (ctx) => ctx.store.delete('x'),
  'store.list': (ctx) => ctx.store.list(),
}

describe('a loop that swallows what a boundary raises', () => {
  test.each(
    Object.keys(BOUNDARIES).flatMap((name) => (['cancel', 'stop'] as const).map((kind) => [name, kind] as const)),
  )('of ctx.%s after a %s keeps nobody else waiting, and its job is abandoned', async (name, kind) => {
    const over = { isOver: false }
    let swallowed = 0
    const call = BOUNDARIES[name] ?? (() => Promise.resolve())
    const swallows = taskOf('swallows', async (ctx) => {
      await new Promise((resolve) => ctx.stopSignal.addEventListener('abort', resolve, { once: true }))
      while (!over.isOver) {
        try {
          await call(ctx)
        } catch {
          swallowed += 1
        }
      }
    })
    const { tether, url } = await openAgents({ tasks: [swallows], settings: { SETTLE_MS: '100' } })
    onTestFinished(() => {
      over.isOver = true
    })
    const id = await startAgent(url, { task: 'swallows', input: null })
    await ask(url, `/jobs/${id}/${kind}`, { method: 'POST' })
    await eventually('it swallows', () => swallowed > 10)
    await ask(url, `/jobs/${id}/cancel`, { method: 'POST' })
    expect((await ended(url, id)).status).toBe('abandoned')
    over.isOver = true
    await eventually('it has settled', () => tether.orchestrator.getAbandonedExecutionCount() === 0)
  })

  test('of a request that nobody awaits ends with its job, which is not held up', async () => {
    const origin = await Origin.start()
    let last = ''
    const lingers = taskOf('lingers', async (ctx) => {
      const linger = async (): Promise<void> => {
        while (!last.includes('has ended'))
          await ctx.fetch(origin.url).catch((error: unknown) => (last = String(error)))
      }
      void linger()
      await eventually('it is asked', () => origin.connections.length > 0)
    })
    const { url } = await openAgents({ tasks: [lingers] })
    const id = await startAgent(url, { task: 'lingers', input: null })
    expect((await ended(url, id)).status).toBe('succeeded')
    await eventually('it was told', () => last.includes('the job has ended'))
    expect(origin.connections).toHaveLength(1)
  })
})
