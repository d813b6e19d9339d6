import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { JobView } from '../src/job/view.ts'
import { childrenOf, isAlive, readStat } from '../src/resources/processes/procfs.ts'
import { bearing } from './processes/RealServer.ts'
import { until } from './processes/world.ts'
import { programEnvironment } from './programEnvironment.ts'

const SCRIPT = join(import.meta.dirname, '../scripts/cluster.sh')

/** The script, with a folder for temporary files in which nothing else is. */
class ClusterScript {
  readonly child: ChildProcess
  readonly folder: string
  output = ''

  private constructor(child: ChildProcess, folder: string) {
    this.child = child
    this.folder = folder
  }

  static async start(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<ClusterScript> {
    const folder = await mkdtemp(join(tmpdir(), 'tether-script-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
    const child = spawn(SCRIPT, args, {
      env: { ...programEnvironment, HOME: process.env['HOME'], TMPDIR: folder, PORT: '0', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    const script = new ClusterScript(child, folder)
    for (const pipe of [child.stdout, child.stderr]) {
      pipe.setEncoding('utf8').on('data', (text: string) => (script.output += text))
    }
    onTestFinished(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      await once(child, 'exit')
    })
    return script
  }

  get url(): string {
    return /^Tether listens on (http:\S+)/m.exec(this.output)?.[1] ?? ''
  }

  /** As they were told of. */
  get pids(): readonly number[] {
    return [...this.output.matchAll(/\(pid (\d+)\)/g)].map(([, pid]) => Number(pid))
  }

  /** What it started: servers and a Redis. */
  get children(): readonly number[] {
    return childrenOf(this.child.pid ?? 0)
  }

  async listens(): Promise<void> {
    await until('it listens', () => this.url !== '' || this.child.exitCode !== null, 60_000)
    expect(this.url, this.output).not.toBe('')
  }
}

async function post(url: string, body: unknown): Promise<JobView> {
  const headers = { 'content-type': 'application/json', connection: 'close' }
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })
  const view: JobView = JSON.parse(await answer.text())
  return view
}

test('the script starts servers that are one, and ends them without a trace', { timeout: 120_000 }, async () => {
  const script = await ClusterScript.start(['2'])
  await script.listens()
  expect(script.pids).toHaveLength(2)
  const word = `0.0000${process.pid}1`
  const started = await post(`${script.url}/jobs`, { task: 'command', input: { command: `sleep 300 ${word}` } })
  await until('its process runs', () => bearing(word).length > 0)
  const ended = await post(`${script.url}/jobs/${started.id}/cancel?wait=10`, {})
  expect(ended).toMatchObject({ id: started.id, status: 'cancelled' })
  expect(bearing(word)).toEqual([])
  await post(`${script.url}/jobs`, { task: 'command', input: { command: `sleep 300 ${word}` } })
  await until('its process runs', () => bearing(word).length > 0)
  const children = script.children
  expect(children).toHaveLength(3)

  script.child.kill('SIGINT')
  const [code]: unknown[] = await once(script.child, 'exit')

  expect(code, script.output).toBe(0)
  expect(children.filter((pid) => isAlive(readStat(pid)))).toEqual([])
  expect(bearing(word)).toEqual([])
  expect(await readdir(script.folder)).toEqual([])
})

test('a request goes past a server that is dead', { timeout: 120_000 }, async () => {
  const script = await ClusterScript.start(['3'])
  await script.listens()
  process.kill(script.pids[1] ?? 0, 'SIGKILL')
  await until('its end is told', () => script.output.includes('replica-2 is gone (SIGKILL)'))
  const answers = Array.from({ length: 6 }, () =>
    fetch(`${script.url}/health/live`, { headers: { connection: 'close' } }),
  )
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200])
})

test.each([
  [['many'], {}],
  [['0'], {}],
  [['2', 'more'], {}],
  [['2'], { PORT: 'high' }],
] as const)('the script refuses wrong usage: %j %j', { timeout: 60_000 }, async (args, env) => {
  const script = await ClusterScript.start(args, env)
  const [code]: unknown[] = await once(script.child, 'exit')
  expect(code, script.output).toBe(2)
})
