import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { TaskFailure } from '../../src/job/failure.ts'
import type { SpawnRequest } from '../../src/resources/processes/Containment.ts'
import { availableLevels, PATH, request, run, running, textOf, uniqueSleep, until } from './world.ts'

const levels = await availableLevels()
const END = { graceMs: 0, deadlineMs: 5000 }

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tether-spawning-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true })
})

describe.each(levels)('starting a process at the level $level', (containment) => {
  test('its exit code and its output come out, each channel by itself', async () => {
    const { process, stdout, stderr } = await run(containment, 'echo out; echo err >&2; exit 7')
    expect(await process.exited).toEqual({ exitCode: 7, signal: null })
    const report = await process.end(END)
    expect(await stdout.whole).toBe('out\n')
    expect(await stderr.whole).toBe('err\n')
    expect(report).toMatchObject({ processes: 1, survivors: [], killedAtMs: null })
  })

  test('a megabyte of output is whole and in order when the end comes right after the exit', async () => {
    const { process, stdout } = await run(containment, 'seq 1 170000')
    await process.exited
    await process.end(END)
    const expected = Array.from({ length: 170_000 }, (_, index) => `${index + 1}\n`).join('')
    expect(expected.length).toBeGreaterThan(1_000_000)
    expect((await stdout.whole) === expected).toBe(true)
  })

  test('the last output of a leader that leaves a child behind is kept', async () => {
    const sleep = uniqueSleep()
    const { process, stdout } = await run(containment, `${sleep} & seq 1 20000`)
    await process.exited
    await process.end(END)
    expect((await stdout.whole).endsWith('\n20000\n')).toBe(true)
    expect(running(sleep)).toEqual([])
  })

  test('what a paused reader has not taken is still its own after the end', async () => {
    const process = await containment.spawn(request(['seq', '1', '20000']))
    process.stderr.resume()
    const { whole, soFar } = textOf(process.stdout)
    process.stdout.pause()
    await process.exited
    await process.end(END)
    await new Promise(setImmediate)
    expect(soFar()).toBe('')
    process.stdout.resume()
    expect((await whole).endsWith('\n20000\n')).toBe(true)
  })

  test('a reader that iterates gets everything', async () => {
    const process = await containment.spawn(request(['seq', '1', '100000']))
    process.stderr.resume()
    const read = (async () => {
      let length = 0
      for await (const chunk of process.stdout) {
        if (chunk instanceof Buffer) length += chunk.length
        await new Promise(setImmediate)
      }
      return length
    })()
    await process.exited
    await process.end(END)
    expect(await read).toBe(588_895)
  })

  test('standard input is a pipe where it was asked for', async () => {
    const process = await containment.spawn(request(['cat'], { stdin: true }))
    process.stderr.resume()
    const { whole } = textOf(process.stdout)
    const text = 'one\ntwo\n'.repeat(50_000)
    process.stdin?.end(text)
    expect(await process.exited).toEqual({ exitCode: 0, signal: null })
    await process.end(END)
    expect((await whole) === text).toBe(true)
  })

  test('standard input is at its end where it was not', async () => {
    const { process, stdout } = await run(containment, 'cat; echo "read $?"')
    expect(process.stdin).toBeNull()
    await process.exited
    await process.end(END)
    expect(await stdout.whole).toBe('read 0\n')
  })

  test('the environment is what was given and the marker, also where a shell would change it', async () => {
    const env = {
      PATH,
      HOME: '/nowhere',
      TEXT: 'two\nlines $(and) "quotes" \'\\',
      'npm_config_//registry.example/:_token': 'odd=name',
      PWD: '/not/here',
      OLDPWD: 'x',
      SHLVL: '41',
      IFS: ',',
      PPID: '1',
      LINENO: '2',
      OPTIND: 'none',
      PS4: '++',
      _: 'u',
      TETHER_ENV_0: 'mine',
      EMPTY: '',
    }
    const got = await environmentOf(env)
    expect(got.TETHER_JOB).toMatch(/^test:job\/\d+-\d+-\d+-\d+$/)
    delete got.TETHER_JOB
    expect(got).toEqual(env)
  })

  test('an empty environment stays empty but for the marker', async () => {
    expect(Object.keys(await environmentOf({}))).toEqual(['TETHER_JOB'])
  })

  async function environmentOf(env: Record<string, string>): Promise<Record<string, string>> {
    const process = await containment.spawn(request(['env', '-0'], { env }))
    const { whole } = textOf(process.stdout)
    process.stderr.resume()
    await process.exited
    await process.end(END)
    const entries = (await whole).split('\0').slice(0, -1)
    return Object.fromEntries(
      entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
    )
  }

  test('it runs in its folder, and a relative program is looked for from there', async () => {
    mkdirSync(join(folder, 'bin'))
    writeFileSync(join(folder, 'bin', 'here'), '#!/bin/sh\npwd; echo "$0 $*"\n', { mode: 0o755 })
    for (const more of [
      { argv: ['./bin/here', 'a  b'] },
      { argv: ['here', 'a  b'], env: { PATH: `bin:${PATH}` } },
    ] as const) {
      const process = await containment.spawn({ ...request(['x']), cwd: folder, ...more })
      const { whole } = textOf(process.stdout)
      process.stderr.resume()
      await process.exited
      await process.end(END)
      expect(await whole).toMatch(new RegExp(`^${folder}\n\\S*bin/here a  b\n$`))
    }
  })

  test('a shell builtin is no program: what runs is the one in PATH', async () => {
    const process = await containment.spawn(request(['echo', '-e', 'x']))
    const { whole } = textOf(process.stdout)
    process.stderr.resume()
    await process.exited
    await process.end(END)
    // The shell's own `echo` of a wrapper would print the option.
    expect(await whole).toBe('x\n')
  })

  test('signals are neither blocked nor ignored, no pipe of ours but its three is open, and it leads its session', async () => {
    const script = `grep -E '^Sig(Blk|Ign)' /proc/self/status; for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && echo $n; done; cut -d' ' -f6 /proc/$$/stat; echo $$; exit 0`
    const { process, stdout } = await run(containment, script)
    await process.exited
    await process.end(END)
    const lines = (await stdout.whole).trim().split('\n')
    expect(lines.slice(0, 5)).toEqual(['SigBlk:\t0000000000000000', 'SigIgn:\t0000000000000000', '0', '1', '2'])
    expect(lines[5]).toBe(lines[6])
  })

  test('a leader that a signal ends shows it, as the signal or as a shell would', async () => {
    const { process, stderr } = await run(containment, 'kill -SEGV $$')
    const status = await process.exited
    await process.end(END)
    expect(status).toEqual(
      containment.level === 'pidns' ? { exitCode: 139, signal: null } : { exitCode: null, signal: 'SIGSEGV' },
    )
    expect(await stderr.whole).toBe('')
  })

  describe('refuses with TETHER_SPAWN_FAILED', () => {
    const cases: readonly [string, Partial<SpawnRequest>, RegExp][] = [
      ['a program that is not there', { argv: ['no-such-program'] }, /"no-such-program", which is not in PATH/],
      ['a path that is not there', { argv: ['/no/such/program'] }, /"\/no\/such\/program", which is not there/],
      ['a folder as a program', { argv: ['/usr'] }, /"\/usr", which is not a file/],
      ['a file that is not executable', { argv: ['/etc/passwd'] }, /"\/etc\/passwd", which is not executable/],
      ['an empty program', { argv: [''] }, /argv\[0\] must name a program/],
      ['a program where PATH is empty', { argv: ['ls'], env: { PATH: '/nowhere' } }, /not in PATH \("\/nowhere"\)/],
      ['a folder that is not there', { cwd: '/no/such/folder' }, /cwd must be a folder, got "\/no\/such\/folder"/],
      ['a file as its folder', { cwd: '/etc/passwd' }, /cwd must be a folder/],
      ['arguments that are too long', { argv: ['echo', 'x'.repeat(3_000_000)] }, /must fit what the system allows/],
      ['NUL in an argument', { argv: ['echo', 'a\0b'] }, /argv must not hold NUL/],
      ['NUL in a value', { env: { PATH, SECRET: 'a\0b' } }, /NUL bytes, got one in "SECRET"$/],
      ['NUL in the folder', { cwd: '/tmp\0' }, /cwd must not hold NUL/],
      ['a name with "="', { env: { PATH, 'a=b': '' } }, /must not be empty or hold "="/],
      ['an owner that is none', { owner: 'a b' }, /owner must be made of/],
    ]
    test.each(cases)('%s', async (_, more, message) => {
      const refusal = containment.spawn({ ...request(['true']), ...more })
      await expect(refusal).rejects.toThrow(message)
      await expect(refusal).rejects.toSatisfy(
        (error) => error instanceof TaskFailure && error.code === 'TETHER_SPAWN_FAILED',
      )
    })
  })

  test('many started at once each get their own tree', async () => {
    const started = await Promise.all(
      Array.from({ length: 12 }, (_, index) => run(containment, `echo ${index}; exit ${index}`)),
    )
    for (const [index, { process, stdout }] of started.entries()) {
      expect((await process.exited).exitCode).toBe(index)
      await process.end(END)
      expect(await stdout.whole).toBe(`${index}\n`)
    }
  })

  test('ending one tree leaves another of the same job alone', async () => {
    const [first, second] = [uniqueSleep(), uniqueSleep()]
    const one = await run(containment, `exec ${first}`)
    const other = await run(containment, `exec ${second}`)
    await until('both run', () => running(first).length === 1 && running(second).length === 1)
    await one.process.end(END)
    expect(running(first)).toEqual([])
    expect(running(second)).toHaveLength(1)
    await other.process.end(END)
  })

  test('a script whose folder forbids reading is refused as not executable', async () => {
    const path = join(folder, 'plain')
    writeFileSync(path, 'echo hi\n')
    chmodSync(path, 0o644)
    await expect(containment.spawn(request([path]))).rejects.toThrow('is not executable')
  })
})
