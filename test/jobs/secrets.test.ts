import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import Type from 'typebox'
import { describe, expect, test } from 'vitest'
import { defineTask, secret } from '../../src/execution/task.ts'
import type { JobRef } from '../../src/job/key.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import type { Tether } from '../../src/tether.ts'
import { end, eventsOf, Gate, openWorld, startOf, taskOf, temporaryFolder, untilRunning } from '../world.ts'

const SECRET = 'hunter2-but-longer-and-quite-unique'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

/** Everything that anybody is shown of a job. */
async function shownOf(tether: Tether, ref: JobRef): Promise<string> {
  const { jobs } = await tether.jobs.list({ tenant: DEFAULT_TENANT, limit: 10 })
  const http = await fetch(`${tether.url}/jobs/${ref.id}`)
  return JSON.stringify([await tether.jobs.job(ref), jobs, await http.text()])
}

async function fileWith(dataDir: string, text: string): Promise<readonly string[]> {
  const found: string[] = []
  for (const entry of await readdir(dataDir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    if ((await readFile(path)).includes(text)) found.push(entry.name)
  }
  return found
}

describe('the secrets of a command', () => {
  test('are shown nowhere, while it waits, while it runs and afterwards, and reach the command', async () => {
    const tether = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [waits] })
    const first = await tether.jobs.start(startOf('waits', null))
    const input = { command: 'test "$TOKEN" = "$(cat)" && echo the same', env: { TOKEN: SECRET }, stdin: SECRET }
    const { ref, view } = await tether.jobs.start(startOf('command', input, { fingerprint: 'of the body' }))
    expect(view.input).toMatchObject({ env: { TOKEN: '[redacted]' }, stdin: SECRET.length })
    expect(await shownOf(tether, ref)).not.toContain(SECRET)
    await end(tether, first.ref, 'cancel', { waitMs: 5000 })
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
    expect(await shownOf(tether, ref)).not.toContain(SECRET)
    const events = JSON.stringify(await eventsOf(tether, ref))
    expect(events).toContain('the same')
    expect(events).not.toContain(SECRET)
  })

  test('are gone from the files once it is claimed and the server has stopped', async () => {
    const dataDir = await temporaryFolder()
    const tether = await openWorld({ dataDir, settings: { CONCURRENCY: '1' }, tasks: [waits] })
    const first = await tether.jobs.start(startOf('waits', null))
    const input = { command: 'sleep 60', env: { TOKEN: SECRET } }
    const { ref } = await tether.jobs.start(startOf('command', input, { fingerprint: 'of the body' }))
    expect(await fileWith(dataDir, SECRET)).not.toEqual([])
    await end(tether, first.ref, 'cancel', { waitMs: 5000 })
    await untilRunning(tether, ref)
    await tether.stop()
    expect(await fileWith(dataDir, SECRET)).toEqual([])
  })

  test('are gone as well where it was cancelled before it ever ran', async () => {
    const dataDir = await temporaryFolder()
    const tether = await openWorld({ dataDir, settings: { CONCURRENCY: '1' }, tasks: [waits] })
    await tether.jobs.start(startOf('waits', null))
    const input = { command: 'true', env: { TOKEN: SECRET } }
    const { ref } = await tether.jobs.start(startOf('command', input, { fingerprint: 'of the body' }))
    await end(tether, ref, 'cancel')
    await tether.stop()
    expect(await fileWith(dataDir, SECRET)).toEqual([])
  })
})

describe('fields that a schema marks secret', () => {
  const token = Type.String(secret())
  const SCHEMAS = {
    'in an object': [Type.Object({ token }), { token: SECRET }],
    'in an object in an object': [Type.Object({ inner: Type.Object({ token }) }), { inner: { token: SECRET } }],
    'in an optional field': [Type.Object({ token: Type.Optional(token) }), { token: SECRET }],
    'in a list': [Type.Array(Type.Object({ token })), [{ token: SECRET }]],
    'in a tuple': [Type.Tuple([Type.Number(), token]), [1, SECRET]],
    'in a record': [Type.Record(Type.String(), token), { a: SECRET }],
    'in further properties': [Type.Object({ a: Type.Number() }, { additionalProperties: token }), { a: 1, b: SECRET }],
    'in one of several forms': [
      Type.Union([Type.Object({ a: Type.Number() }), Type.Object({ token })]),
      { token: SECRET },
    ],
    'in one part of several': [
      Type.Intersect([Type.Object({ a: Type.Number() }), Type.Object({ token })]),
      { a: 1, token: SECRET },
    ],
    'as the whole input': [token, SECRET],
  } as const

  test.each(Object.entries(SCHEMAS))(
    '%s are shown to nobody and reach the function',
    async (_name, [schema, input]) => {
      const seen = new Gate()
      let got: unknown
      const keeps = defineTask({
        name: 'keeps',
        input: Type.Unsafe<(typeof SCHEMAS)[keyof typeof SCHEMAS][1]>(schema),
        async run(_ctx, given) {
          got = given
          seen.open()
        },
      })
      const tether = await openWorld({ tasks: [keeps] })
      const { ref, view } = await tether.jobs.start(startOf('keeps', input, { fingerprint: 'of the body' }))
      expect(JSON.stringify(view)).not.toContain(SECRET)
      await tether.jobs.outcome(ref)
      expect(await shownOf(tether, ref)).not.toContain(SECRET)
      expect(JSON.stringify(await eventsOf(tether, ref))).not.toContain(SECRET)
      await seen.opened
      expect(got).toEqual(input)
    },
  )
})
