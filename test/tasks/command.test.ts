import { realpath } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { running, uniqueSleep } from '../processes/world.ts'
import { end, eventsOf, eventually, openWorld, startOf, temporaryFolder } from '../world.ts'

async function run(input: object) {
  const tether = await openWorld()
  const { ref } = await tether.jobs.start(startOf('command', { ...input }))
  const view = await tether.jobs.outcome(ref)
  const events = await eventsOf(tether, ref)
  const text = (channel: string): string =>
    events.map((event) => (event.type === 'output' && event.channel === channel ? event.text : '')).join('')
  return { view, stdout: text('stdout'), stderr: text('stderr') }
}

describe('a command', () => {
  test('as a shell line streams both outputs and succeeds', async () => {
    const { view, stdout, stderr } = await run({ command: 'echo "a  b" | tr a c; echo oops >&2' })
    expect(view).toMatchObject({ status: 'succeeded', result: { exitCode: 0 } })
    expect([stdout, stderr]).toEqual(['c  b\n', 'oops\n'])
  })

  test('as argv is run without a shell', async () => {
    expect((await run({ argv: ['printf', '%s\n', '$HOME; ls'] })).stdout).toBe('$HOME; ls\n')
  })

  test('gets its folder, environment and standard input', async () => {
    const cwd = await temporaryFolder()
    const { stdout } = await run({
      command: 'pwd -P; echo $GREETING; cat',
      cwd,
      env: { GREETING: 'hi' },
      stdin: 'ende',
    })
    expect(stdout).toBe(`${await realpath(cwd)}\nhi\nende`)
  })

  test('fails with its exit code, or with the signal that ended it', async () => {
    expect((await run({ command: 'exit 7' })).view).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_EXIT_CODE', exitCode: 7, message: expect.stringContaining('7') },
    })
    expect((await run({ command: 'kill -TERM $$' })).view).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_EXIT_CODE', signal: 'SIGTERM' },
    })
  })

  test.each([
    [{ argv: ['no-such-program-anywhere'] }],
    [{ argv: [''] }],
    [{ command: 'true', cwd: '/nowhere/at/all' }],
  ])('fails with TETHER_SPAWN_FAILED at %j', async (input) => {
    expect((await run(input)).view.failure?.code).toBe('TETHER_SPAWN_FAILED')
  })

  test.each([
    [{}],
    [{ command: '' }],
    [{ argv: [] }],
    [{ command: 'true', argv: ['true'] }],
    [{ command: 'true', env: { 'A=B': 'c' } }],
    [{ command: 'true', shell: 'bash' }],
    [{ command: 1 }],
  ])('of %j is refused before it is recorded', async (input) => {
    const tether = await openWorld()
    await expect(tether.jobs.start(startOf('command', { ...input }))).rejects.toMatchObject({
      code: 'TETHER_INVALID_REQUEST',
      message: expect.stringContaining('input'),
    })
    expect(tether.jobs.activeCount).toBe(0)
  })

  test('ends stopped when its tree is gone: it gets TERM once and may finish its last words', async () => {
    const sleep = uniqueSleep()
    const tether = await openWorld()
    const cwd = await temporaryFolder()
    const line = `trap 'echo bye; kill %1; exit 0' TERM; ${sleep} & wait`
    const { ref } = await tether.jobs.start(startOf('command', { command: line, cwd }))
    await eventually('it runs', () => running(sleep).length === 1)
    await end(tether, ref, 'stop')
    const view = await tether.jobs.outcome(ref)
    expect(view).toMatchObject({ status: 'stopped', stop: { cause: 'stop_requested' }, receipt: { confirmed: true } })
    expect(JSON.stringify(await eventsOf(tether, ref))).toContain('bye')
    expect(running(sleep)).toEqual([])
  })
})
