import { describe, expect, test } from 'vitest'
import { availableLevels, request, textOf, until } from '../processes/world.ts'

const KILL = { graceMs: 0, deadlineMs: 5000 }

/** The file descriptors of one digit: what a test runner was started with may be handed on behind them. */
function low(listed: string): readonly string[] {
  return listed
    .trim()
    .split(' ')
    .filter((fd) => fd.length === 1)
}

describe.each(await availableLevels())('a process with a channel at the level $level', (containment) => {
  test('has it as its file descriptor 3, in both directions, and no other beside it', async () => {
    const line = 'ls /proc/self/fd | tr "\\n" " "; while read -r line <&3; do echo "got $line" >&3; done'
    const process = await containment.spawn(request(['bash', '-c', line], { channel: true }))
    const stdout = textOf(process.stdout)
    if (process.channel === null) throw new Error('there is no channel')
    const said = textOf(process.channel)
    process.channel.write('one\ntwo\n')
    await until('it answers', () => said.soFar() === 'got one\ngot two\n')
    // The last is the folder that is being listed.
    expect(low(stdout.soFar())).toEqual(['0', '1', '2', '3', '4'])
    process.channel.end()
    expect(await process.exited).toEqual({ exitCode: 0, signal: null })
    await process.end(KILL)
    expect(process.channel.destroyed).toBe(true)
  })

  test('that was not asked for has none', async () => {
    const process = await containment.spawn(request(['sh', '-c', 'ls /proc/self/fd | tr "\\n" " "']))
    const stdout = textOf(process.stdout)
    await process.exited
    await process.end(KILL)
    expect(process.channel).toBeNull()
    expect(low(await stdout.whole)).toEqual(['0', '1', '2', '3'])
  })

  test('comes to its end with what was said last, where the process exits', async () => {
    const process = await containment.spawn(request(['sh', '-c', 'echo bye >&3; exit 4'], { channel: true }))
    if (process.channel === null) throw new Error('there is no channel')
    const said = textOf(process.channel)
    process.stdout.resume()
    process.stderr.resume()
    expect((await process.exited).exitCode).toBe(4)
    await process.end(KILL)
    expect(await said.whole).toBe('bye\n')
  })
})
