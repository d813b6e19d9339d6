import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { TaskRegistry } from '../../src/execution/TaskRegistry.ts'
import { defineTask, type TaskDefinition } from '../../src/execution/task.ts'
import { openWorld, temporaryFolder } from '../world.ts'
import { levels, openIsolated, runJob, textOf } from './world.ts'

function taskIn(module: string | undefined): TaskDefinition {
  const run = async () => undefined
  return defineTask({
    name: 'elsewhere',
    input: {},
    isolate: 'process',
    run,
    ...(module === undefined ? {} : { module }),
  })
}

describe.each(levels)('an isolated task at the level %s', (level) => {
  test('runs in another process, with the context of its job, and its result comes back', async () => {
    const tether = await openIsolated(level)
    const { view, events } = await runJob(tether, 'echo', { text: 'ä\u2028"' })
    expect(view).toMatchObject({ status: 'succeeded', attempt: 1 })
    expect(view.result).toMatchObject({ input: '{"text":"ä\u2028\\""}', jobId: view.id, attempt: 1, metadata: {} })
    expect(view.result).not.toMatchObject({ pid: process.pid })
    expect(events.map((event) => event.type)).toEqual(['job.queued', 'job.started', 'job.succeeded'])
  })

  test('has the environment of a command and nothing of the server', async () => {
    process.env.TETHER_TEST_SECRET = 'secret'
    const tether = await openIsolated(level)
    const { view } = await runJob(tether, 'env')
    delete process.env.TETHER_TEST_SECRET
    expect(view.result).toMatchObject({ PATH: process.env.PATH, TETHER_JOB: expect.stringMatching(/^isolated\//) })
    expect(Object.keys(Object(view.result))).not.toContain('TETHER_TEST_SECRET')
    expect(Object.keys(Object(view.result))).not.toContain('VITEST')
  })

  test('fails with the code, the message, the exit code and the retryability that it throws', async () => {
    const tether = await openIsolated(level)
    expect((await runJob(tether, 'fails')).view).toMatchObject({
      status: 'failed',
      failure: { code: 'MY_CODE', message: 'as it should', retryable: true, exitCode: 7 },
    })
    expect((await runJob(tether, 'throws')).view.failure).toEqual({
      code: 'TETHER_TASK_FAILED',
      message: 'TypeError: that is none',
      retryable: false,
    })
  })

  test('that exits fails with its code, and what it sent before is in the log', async () => {
    const tether = await openIsolated(level)
    const { view, events } = await runJob(tether, 'exits', 3)
    expect(view.failure).toEqual({
      code: 'TETHER_PROCESS_DIED',
      message: "the task's process exited with code 3 before its function had settled",
      retryable: false,
      exitCode: 3,
    })
    const lines = Array.from({ length: 2000 }, (_, n) => `line ${n}\n`).join('')
    expect(textOf(events, 'text')).toBe(lines)
  })

  test('that is killed from outside fails with the signal, or the code by which the level shows it', async () => {
    const tether = await openIsolated(level)
    const { failure } = (await runJob(tether, 'kills-itself', 'SIGKILL')).view
    expect(failure).toMatchObject({
      code: 'TETHER_PROCESS_DIED',
      message: expect.stringContaining('SIGKILL'),
      retryable: true,
      ...(level === 'pidns' ? { exitCode: 137 } : { signal: 'SIGKILL' }),
    })
  })

  test('that throws where nobody catches it fails, and says what it threw on stderr', async () => {
    const tether = await openIsolated(level)
    const { view, events } = await runJob(tether, 'crashes')
    expect(view.failure).toMatchObject({ code: 'TETHER_PROCESS_DIED', exitCode: 1 })
    expect(textOf(events, 'stderr')).toContain('nobody catches this')
  })
})

describe('an isolated task', () => {
  test('is refused a result that is too large, or no JSON', async () => {
    const tether = await openIsolated('group')
    expect((await runJob(tether, 'huge')).view.failure).toMatchObject({ code: 'TETHER_RESULT_TOO_LARGE' })
    expect((await runJob(tether, 'not-json')).view.failure).toMatchObject({ code: 'TETHER_RESULT_INVALID' })
  })

  test('fails where its module is not there, throws, or exports no such task, and says which', async () => {
    const modules: readonly [string, string][] = [
      ['notThere.ts', 'cannot be loaded'],
      ['throwsAtImport.ts', 'cannot be loaded: not today'],
      ['exportsNoTask.ts', 'exports no task elsewhere'],
    ]
    for (const [file, words] of modules) {
      const module = new URL(`./fixtures/${file}`, import.meta.url).href
      const tether = await openWorld({ tasks: [taskIn(module)] })
      const { failure } = (await runJob(tether, 'elsewhere')).view
      expect(failure).toMatchObject({ code: 'TETHER_TASK_FAILED', message: expect.stringContaining(words) })
      expect(failure?.message).toContain(file)
    }
  })

  const nonsense: readonly [string, string][] = [
    ['no JSON', 'nonsense\n'],
    ['half a message', '{"type":"outcome"}\n'],
    ['an event that is not for tasks', '{"type":"events","asksRoom":false,"events":[{"type":"job.succeeded"}]}\n'],
    ['no object', '[]\n'],
  ]
  test.each(nonsense)('that writes %s to the channel itself fails, and the server goes on', async (_, text) => {
    const tether = await openIsolated('group')
    const { failure } = (await runJob(tether, 'writes-nonsense', text)).view
    expect(failure).toMatchObject({ code: 'TETHER_TASK_FAILED', message: expect.stringContaining('message') })
    expect((await runJob(tether, 'quick')).view.status).toBe('succeeded')
  })

  test('that writes a line without end to the channel fails', async () => {
    const tether = await openIsolated('group')
    expect((await runJob(tether, 'writes-line', 5_000_000)).view.failure).toMatchObject({
      code: 'TETHER_TASK_FAILED',
      message: expect.stringContaining('a message may have 4194304 bytes'),
    })
  })

  test('that closes the channel fails', async () => {
    const tether = await openIsolated('group')
    expect((await runJob(tether, 'closes-channel')).view.failure).toMatchObject({
      code: 'TETHER_TASK_FAILED',
      message: expect.stringContaining('file descriptor 3'),
    })
  })

  test('runs commands, in groups inside of what holds it', async () => {
    for (const level of levels) {
      const tether = await openIsolated(level)
      const { view, events } = await runJob(tether, 'execs')
      expect(view.result).toEqual({ exitCode: 3, collected: 'collected\n' })
      expect(textOf(events, 'stdout')).toBe('streamed\n')
    }
  })

  test('runs child jobs, isolated ones and others, whose failures it can catch', async () => {
    const tether = await openIsolated('group')
    const { view, events } = await runJob(tether, 'parent', { task: 'in-process', input: null })
    expect(view.result).toEqual({ child: { pid: process.pid } })
    expect(events.map((event) => event.type)).toEqual([
      'job.queued',
      'job.started',
      'child.started',
      'child.finished',
      'job.succeeded',
    ])
    const nested = await runJob(tether, 'parent', { task: 'parent', input: { task: 'echo', input: 'deep' } })
    expect(nested.view.result).toMatchObject({ child: { child: { input: '"deep"' } } })
    expect((await runJob(tether, 'catches-child')).view.result).toBe('TETHER_CHILD_FAILED')
    expect((await runJob(tether, 'parent', { task: 'nobody', input: null })).view.failure).toMatchObject({
      code: 'TETHER_TASK_NOT_FOUND',
    })
  })
})

describe('a registered task', () => {
  test('that is isolated must name its module, by a URL', () => {
    const registry = new TaskRegistry()
    expect(() => registry.register(taskIn(undefined))).toThrow(
      'task elsewhere is isolated, so it must name the module that exports it: module: import.meta.url',
    )
    expect(() => registry.register(taskIn('./tasks.ts'))).toThrow('module of task elsewhere must be a URL')
    expect(registry.find('elsewhere')).toBeUndefined()
    registry.register(taskIn(import.meta.url))
    expect(registry.get('elsewhere').isolatedModule).toBe(import.meta.url)
  })

  test('of TASKS_DIR gets its module from there', async () => {
    const folder = await temporaryFolder()
    const text = `export const own = { name: 'own', input: {}, isolate: 'process', run: async () => process.pid }`
    writeFileSync(join(folder, 'own.mjs'), text)
    const tether = await openWorld({ settings: { TASKS_DIR: folder } })
    const { view } = await runJob(tether, 'own')
    expect(view.status).toBe('succeeded')
    expect(view.result).not.toBe(process.pid)
  })
})
