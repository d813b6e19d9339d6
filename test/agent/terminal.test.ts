import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { running, uniqueSleep } from '../processes/world.ts'
import { ask, jobOf } from '../server/requests.ts'
import { eventually } from '../world.ts'
import { type AgentWorld, ended, KEY, openAgents, runAgent, startAgent, textOf, untilEvent } from './agentWorld.ts'
import { calls, type Reply, says } from './FakeModelServer.ts'

/** What the model was told of its last calls of tools. */
function toldIn(world: AgentWorld, number: number): readonly string[] {
  const messages = world.model.requests[number - 1]?.body.messages ?? []
  const last = messages.findLastIndex(({ role }) => role === 'assistant')
  return messages.slice(last + 1).map(({ content }) => (typeof content === 'string' ? content : ''))
}

/** Runs one command in the terminal of an agent. */
async function runCommand(input: object, more: { env?: Record<string, string> } = {}) {
  for (const [name, value] of Object.entries(more.env ?? {})) {
    process.env[name] = value
    onTestFinished(() => {
      delete process.env[name]
    })
  }
  const world = await openAgents()
  world.model.script(calls(['terminal', input]), says('Done.'))
  const { view, events } = await runAgent(world.url)
  expect(view.status).toBe('succeeded')
  const [told = ''] = toldIn(world, 2)
  return { told, events, view, finished: Object(events.find(({ type }) => type === 'tool.finished')) }
}

describe('the terminal', () => {
  test('tells the model how a command ended and what it said, and shows it as it comes', async () => {
    const { told, events, finished } = await runCommand({ command: 'echo out; echo err >&2; exit 3' })
    expect(told).toBe('exit code 3\n--- stdout ---\nout\n\n--- stderr ---\nerr\n')
    expect(textOf(events, 'stdout')).toBe('out\n')
    expect(textOf(events, 'stderr')).toBe('err\n')
    expect(finished).toMatchObject({ ok: false, summary: 'exit code 3' })
  })

  test('tells of a command that says nothing, and of one that a signal ended', async () => {
    expect((await runCommand({ command: 'true' })).told).toBe('exit code 0\n(no output)')
    const { told, finished } = await runCommand({ command: 'echo before; kill -9 $$' })
    expect(told).toMatch(/^ended by SIGKILL\n--- stdout ---\nbefore\n/)
    expect(finished).toMatchObject({ ok: false, summary: 'ended by SIGKILL' })
  })

  test('starts in the workspace, whose files stay with the job, and which a sub-agent shares', async () => {
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) => {
      if (prompt === 'sub') return answers === 0 ? calls(['terminal', { command: 'cat a; echo two >b' }]) : says('Sub.')
      if (answers === 0) return calls(['terminal', { command: 'pwd; echo one >a' }])
      if (answers === 1) return calls(['sub_agent', { prompt: 'sub' }])
      return answers === 2 ? calls(['terminal', { command: 'cat b' }]) : says('Done.')
    })
    const { view, events } = await runAgent(url)
    expect(textOf(events, 'stdout')).toMatch(/\/workspaces\/.*\ntwo\n$/)
    expect((await ask(url, `/jobs/${view.id}/files`)).json).toMatchObject({ files: [{ path: 'a' }, { path: 'b' }] })
    expect(await (await fetch(`${url}/jobs/${view.id}/files/b`)).text()).toBe('two\n')
  })

  test('gives a command that waits for input its end at once, also where it asks the terminal itself', async () => {
    const command = 'cat; read -r line || echo "no line"; (cat </dev/tty) 2>/dev/null || echo "no terminal"; tty'
    const { told } = await runCommand({ command })
    expect(told).toContain('no line\nno terminal\nnot a tty\n')
  })

  test('shows a command nothing of the server’s environment, its keys least of all', async () => {
    const secrets = {
      OPENAI_API_KEY: 'sk-secret-1',
      ANTHROPIC_API_KEY: 'sk-secret-2',
      API_TOKEN: 'secret-token-0123456789',
      AWS_SECRET_ACCESS_KEY: 'secret-4',
      DATABASE_URL: 'postgres://secret-5',
    }
    const { told, events } = await runCommand({ command: 'env; export -p; cat /proc/self/environ' }, { env: secrets })
    expect(told).toContain('PATH=')
    expect(told).toContain('TERM=dumb')
    for (const shown of [told, JSON.stringify(events)]) {
      expect(shown).not.toContain('secret')
      expect(shown).not.toContain(KEY)
      for (const name of Object.keys(secrets)) expect(shown).not.toContain(name)
      expect(shown).not.toContain('VITEST')
    }
  })

  test('passes on what escapes and what is no text: exact in the log, and whole characters', async () => {
    const escapes = `printf '\\033[31mred\\033[0m\\033]0;title\\007\\r\\010'`
    const { told, events } = await runCommand({ command: escapes })
    expect(textOf(events, 'stdout')).toBe('\u001b[31mred\u001b[0m\u001b]0;title\u0007\r\b')
    expect(told).toContain('\u001b[31mred')
    const parted = await runCommand({ command: `printf '\\360\\237'; sleep 0.05; printf '\\230\\200'` })
    expect(textOf(parted.events, 'stdout')).toBe('😀')
    const binary = await runCommand({ command: `printf 'a\\000\\377\\376b'; head -c 100000 /dev/urandom` })
    expect(textOf(binary.events, 'stdout')).toMatch(/^a\0\ufffd\ufffdb/)
    expect(binary.told.isWellFormed()).toBe(true)
    expect(binary.told.length).toBeLessThan(20_000)
  })

  test('tells of a command that cannot be run, and goes on', async () => {
    const { told } = await runCommand({ command: 'no-such-program-anywhere' })
    expect(told).toContain('exit code 127')
    expect((await runCommand({ command: 'echo a\0b' })).finished.ok).toBe(false)
    expect((await runCommand({ command: '' })).told).toContain('input.command must not have fewer than 1 characters')
  })
})

describe('a command in the terminal that', () => {
  test('says more than anybody reads shows its beginning and its end, and the log its beginning', async () => {
    const { told, events } = await runCommand({ command: 'seq 1 200000' })
    expect(told).toMatch(/^exit code 0\n--- stdout ---\n1\n2\n3\n/)
    expect(told).toMatch(/\n… \d+ characters left out …\n/)
    expect(told).toMatch(/\n199999\n200000\n$/)
    expect(told.length).toBeLessThan(17_000)
    const logged = textOf(events, 'stdout')
    expect(logged).toMatch(/\n… the rest of this output is not logged …\n$/)
    expect(logged.length).toBeLessThan(270_000)
    expect(logged.startsWith('1\n2\n3\n')).toBe(true)
  })

  test('has no end of output is ended', async () => {
    const { told, events, finished } = await runCommand({ command: 'yes; echo never' })
    expect(finished).toMatchObject({ ok: false, summary: expect.stringContaining('it said more than') })
    expect(told).toMatch(/^it was ended, because it said more than 67108864 characters\n--- stdout ---\ny\ny\n/)
    expect(told).not.toContain('never')
    expect(textOf(events, 'stdout').length).toBeLessThan(270_000)
  })

  test('outlives its timeoutMs is ended with all that it started, and told so', async () => {
    const sleep = uniqueSleep()
    const { told, finished } = await runCommand({
      command: `echo begun; trap '' TERM; (setsid ${sleep}) & ${sleep}; ${sleep}`,
      timeoutMs: 300,
    })
    expect(told).toBe('it was ended after 300 ms (timeoutMs)\n--- stdout ---\nbegun\n')
    expect(finished).toMatchObject({ ok: false })
    expect(running(sleep)).toEqual([])
  })

  test('leaves something behind takes it with it, and is not waited for', async () => {
    const sleep = uniqueSleep()
    const { told } = await runCommand({ command: `${sleep} & echo left` })
    expect(told).toBe('exit code 0\n--- stdout ---\nleft\n')
    expect(running(sleep)).toEqual([])
  })
})

describe('a command in the background', () => {
  /** Lets a model start commands, then stall until the job is ended. */
  async function inBackground(reply: Reply) {
    const world = await openAgents()
    world.model.script(reply, { parts: [{ text: 'Now it runs.' }, { stall: true }] })
    const id = await startAgent(world.url)
    await untilEvent(world.url, id, (event) => event.type === 'output' && event.text.includes('Now it runs.'))
    return { world, id, told: toldIn(world, 2) }
  }

  test('goes on beside the agent and is gone with its job; its output is in a file', async () => {
    const sleep = uniqueSleep()
    const { world, id, told } = await inBackground(
      calls(['terminal', { command: `echo out; echo err >&2; (setsid ${sleep}) & ${sleep}`, background: true }]),
    )
    expect(told[0]).toMatch(/^it runs in the background \(pid \d+\); its output goes to \.tether\/background-\w+\.log$/)
    expect(running(sleep)).toHaveLength(2)
    const file = told[0]?.split(' ').at(-1) ?? ''
    expect(await (await fetch(`${world.url}/jobs/${id}/files/${file}`)).text()).toBe('out\nerr\n')
    await ask(world.url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    const view = await jobOf(world.url, id)
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect(view.receipt?.released.processes).toBeGreaterThanOrEqual(1)
    expect(running(sleep)).toEqual([])
  })

  test('is gone also where its job succeeds', async () => {
    const sleep = uniqueSleep()
    const { model, url } = await openAgents()
    model.script(calls(['terminal', { command: sleep, background: true }]), says('It runs.'))
    expect((await runAgent(url)).view.status).toBe('succeeded')
    expect(running(sleep)).toEqual([])
  })

  test('that ends at once is told of with its output', async () => {
    const { finished, told } = await runCommand({ command: 'echo said; exit 7', background: true })
    expect(told).toMatch(/^it ended at once: exit code 7\n--- output ---\nsaid\n$/)
    expect(finished).toMatchObject({ ok: false, summary: 'ended at once: exit code 7' })
    const silent = await runCommand({ command: 'true', background: true })
    expect(silent.told).toBe('it ended at once: exit code 0\n')
  })

  test('that ends at once with a mountain of output is told of with its beginning', async () => {
    const { told } = await runCommand({
      command: 'head -c 2000000 /dev/zero | tr "\\0" x; echo end',
      background: true,
    })
    expect(told.length).toBeLessThan(20_000)
    expect(told).toMatch(/^it ended at once: exit code 0\n--- output ---\nx{1000}/)
  })

  test('that has no end of output is ended, and its file says so', async () => {
    const { world, id, told } = await inBackground(calls(['terminal', { command: 'sleep 1; yes', background: true }]))
    const file = told[0]?.split(' ').at(-1) ?? ''
    const bytes = async (): Promise<number> => {
      const { files } = (await ask(world.url, `/jobs/${id}/files`)).json as { files: { bytes: number }[] }
      return files[0]?.bytes ?? 0
    }
    await eventually('it has said too much', async () => (await bytes()) > 64 * 1024 * 1024, 30_000)
    const lastWords = async (): Promise<string> =>
      (await (await fetch(`${world.url}/jobs/${id}/files/${file}`)).text()).slice(-100)
    await eventually('it was ended', async () => /it was ended, because it said more than/.test(await lastWords()))
    expect(await bytes()).toBeLessThan(65 * 1024 * 1024)
  })

  test('that says too much at once is told so', async () => {
    const { told } = await runCommand({ command: 'yes', background: true })
    expect(told).toMatch(
      /^it (ended at once: it was ended, because it said more than \d+ bytes|runs in the background)/,
    )
  })

  test('that takes away the folder it works in is told of all the same', async () => {
    const { told } = await runCommand({ command: 'rm -rf "$PWD"; echo said; exit 7', background: true })
    expect(told).toBe('it ended at once: exit code 7\n--- output ---\nsaid\n')
  })

  test('has a file of its own, whoever else starts one in the same moment', async () => {
    const now = vi.spyOn(Date, 'now').mockReturnValue(Date.now())
    onTestFinished(() => now.mockRestore())
    const world = await openAgents()
    world.model.answers(({ prompt, answers }) => {
      if (prompt === 'all') {
        if (answers > 0) return says('Done.')
        return calls(...Array.from({ length: 8 }, (_, n) => ['sub_agent', { prompt: `sub ${n}` }] as const))
      }
      return answers === 0 ? calls(['terminal', { command: `echo ${prompt}`, background: true }]) : says(prompt)
    })
    const { view } = await runAgent(world.url, { prompt: 'all' })
    expect(view.status).toBe('succeeded')
    const { files } = (await ask(world.url, `/jobs/${view.id}/files`)).json as { files: { path: string }[] }
    const texts = await Promise.all(
      files.map(async ({ path }) => (await fetch(`${world.url}/jobs/${view.id}/files/${path}`)).text()),
    )
    expect(texts.toSorted()).toEqual(Array.from({ length: 8 }, (_, n) => `sub ${n}\n`))
  })

  test('that puts something else in the place of its file is no trouble', async () => {
    const world = await openAgents()
    const swap = 'f=$(ls .tether/*.log); rm "$f"; mkfifo "$f"; exit 1'
    world.model.script(calls(['terminal', { command: swap, background: true }]), says('Done.'))
    const id = await startAgent(world.url)
    expect(await ended(world.url, id)).toMatchObject({ status: 'succeeded' })
  })

  test('is stopped between its start and the look at it: the job ends, and it with the job', async () => {
    const sleep = uniqueSleep()
    const { model, url } = await openAgents()
    model.script(calls(['terminal', { command: sleep, background: true }]))
    const id = await startAgent(url)
    await eventually('it runs', () => running(sleep).length === 1)
    await ask(url, `/jobs/${id}/stop?wait=20`, { method: 'POST' })
    expect(await ended(url, id)).toMatchObject({ status: 'stopped', receipt: { confirmed: true } })
    expect(running(sleep)).toEqual([])
    model.seal()
  })
})
