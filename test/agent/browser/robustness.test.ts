import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readStat } from '../../../src/resources/processes/procfs.ts'
import { eventually, temporaryFolder } from '../../world.ts'
import { BrowserJob, commandLine, hasChromium, openSite, toolNamed } from './world.ts'

const FINE = '<h1>Fine</h1>'

describe.skipIf(!hasChromium)('a page that', { timeout: 90_000 }, () => {
  test('never answers is given up in time, and does not come back later', async () => {
    const site = await openSite({ '/': FINE })
    const held = site.hold('/never')
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    const startedMs = performance.now()
    const text = await job.refusal('open', { url: `${site.url}/never`, timeoutMs: 2000 })
    expect(performance.now() - startedMs).toBeLessThan(8000)
    expect(text).toContain(`${site.url}/never could not be opened: there was no answer within 1000 ms`)
    // The page from before is still there.
    expect(text).toContain('# Fine')
    ;(await held).end('<h1>Late</h1>')
    expect(await job.text('wait')).toContain('# Fine')
  })

  test('never ends is read as far as it has come', async () => {
    const site = await openSite({
      '/': (_request, response) => {
        response.writeHead(200, { 'content-type': 'text/html' })
        response.write(`<h1>Beginning</h1>${' '.repeat(5000)}`)
      },
    })
    const job = await BrowserJob.start()
    const text = await job.text('open', { url: site.url, timeoutMs: 5000 })
    expect(text).toContain('# Beginning')
    expect(text).toContain('The page was still loading when it was read')
  })

  test('is never at rest is read as it is', async () => {
    const site = await openSite({
      '/': `<h1>Busy</h1><script>
        const again = () => fetch('/poll').then(again)
        again()
        setInterval(() => { document.title = Math.random() }, 1)
      </script>`,
      '/poll': 'x',
    })
    const job = await BrowserJob.start()
    const text = await job.text('open', { url: site.url, timeoutMs: 5000 })
    expect(text).toContain('# Busy')
    expect(text).toContain('still loading')
    expect(await job.text('read', { timeoutMs: 2000 })).toContain('# Busy')
  })

  test('loads itself again and again can be left', async () => {
    const site = await openSite({ '/': `<h1>Again</h1><script>location.reload()</script>`, '/fine': FINE })
    const job = await BrowserJob.start()
    await job.call('open', { url: site.url, timeoutMs: 5000 })
    await eventually('it reloads', () => site.asked.length > 5)
    expect(await job.text('open', { url: `${site.url}/fine`, timeoutMs: 20_000 })).toContain('# Fine')
  })

  test('has a script without end is stopped, and can be read then', async () => {
    const site = await openSite({
      '/': `<h1>Looping</h1><button onclick="for (;;);">Loop</button>`,
    })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    const text = (await job.call('click', { target: 'e1', timeoutMs: 3000 })).text
    expect(text).toContain('The page did not answer, so what its scripts were doing was stopped.')
    expect(text).toContain('# Looping')
    expect(await job.text('read')).toContain('# Looping')
  })

  test('never stops with that is given up, and others can be opened', async () => {
    const site = await openSite({
      '/': `<h1>Looping</h1><script>setInterval(() => { for (;;); }, 0)</script>`,
      '/fine': FINE,
    })
    const job = await BrowserJob.start()
    const text = await job.refusal('open', { url: site.url, timeoutMs: 3000 })
    expect(text).toContain('The page does not answer and was closed; an empty one is open instead.')
    expect(await job.text('open', { url: `${site.url}/fine` })).toContain('# Fine')
  })

  test('begins to loop between two calls is met in the next', async () => {
    const site = await openSite({
      '/': `<h1>Later</h1><script>setTimeout(() => { navigator.sendBeacon('/looping'); for (;;); }, 1500)</script>`,
      '/fine': FINE,
    })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    await eventually('it loops', () => site.asked.includes('/looping'))
    expect(await job.text('open', { url: `${site.url}/fine` })).toContain('# Fine')
  })

  test('crashes is told, and others can be opened', async () => {
    const site = await openSite({ '/': '<h1>Fragile</h1><button>B</button>', '/fine': FINE })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    const renderers = job.processes().filter((pid) => commandLine(pid).includes('--type=renderer'))
    expect(renderers.length).toBeGreaterThan(0)
    for (const pid of renderers) process.kill(pid, 'SIGKILL')
    await eventually('they are gone', () => renderers.every((pid) => readStat(pid) === undefined))
    const text = await job.refusal('click', { target: 'e1' })
    expect(text).toContain('The page crashed.')
    expect(text).toContain('an empty one is open instead. browser_open opens another.')
    expect(await job.text('open', { url: `${site.url}/fine` })).toContain('# Fine')
  })

  test('says more than anybody can read does not keep others from being heard', async () => {
    const site = await openSite({
      '/': `<h1>Loud</h1><button>B</button><script>
        const large = 'x'.repeat(1e5)
        setInterval(() => { for (let n = 0; n < 3; n += 1) console.log(large) }, 10)
        setInterval(() => { throw new Error(large) }, 10)
      </script>`,
    })
    const job = await BrowserJob.start()
    expect(await job.text('open', { url: site.url })).toContain('# Loud')
    expect(await job.text('click', { target: 'e1' })).toContain('# Loud')
    await job.finish()
    expect(JSON.stringify(await job.events()).length).toBeLessThan(20_000)
  })

  test('asks for permissions, prints, or wants a password, holds nobody up', async () => {
    const site = await openSite({
      '/': `<h1>Nosy</h1><script>
        navigator.geolocation.getCurrentPosition(() => {}, () => {})
        Notification.requestPermission()
        navigator.mediaDevices?.getUserMedia({ video: true }).catch(() => {})
        print()
      </script>`,
      '/password': (request, response) => {
        if (request.headers.authorization === `Basic ${btoa('ada:secret')}`) {
          response.end('<h1>Welcome</h1>')
          return
        }
        response
          .writeHead(401, { 'www-authenticate': 'Basic realm="x"', 'content-type': 'text/html' })
          .end('<h1>Who?</h1>')
      },
    })
    const job = await BrowserJob.start()
    expect(await job.text('open', { url: site.url })).toContain('# Nosy')
    const refusal = await job.refusal('open', { url: `${site.url}/password` })
    expect(refusal).toContain('it wants a name and a password, which the address can bear')
    const url = `${site.url.replace('://', '://ada:secret@')}/password`
    expect(await job.text('open', { url })).toContain('# Welcome')
  })
})

describe.skipIf(!hasChromium)('a browser', { timeout: 90_000 }, () => {
  test('that dies is told, and the next page gets another', async () => {
    const site = await openSite({ '/': FINE })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    const main = job
      .processes()
      .find((pid) => /remote-debugging-pipe/.test(commandLine(pid)) && !/--type=/.test(commandLine(pid)))
    if (main === undefined) throw new Error('there is no browser')
    const held = site.hold('/never')
    const waiting = job.refusal('open', { url: `${site.url}/never` })
    await held
    process.kill(main, 'SIGKILL')
    expect(await waiting).toContain('the browser is gone, and its pages and cookies with it: Chromium ended (SIGKILL)')
    expect(await job.refusal('read')).toBe('no page is open: browser_open opens one')
    expect(await job.text('open', { url: site.url })).toContain('# Fine')
  })

  test('whose driver dies is gone with it, and the next page gets another', async () => {
    const site = await openSite({ '/': FINE })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    const [driver] = job.processes().filter((pid) => commandLine(pid).includes('driverMain'))
    if (driver === undefined) throw new Error('there is no driver')
    const before = job.processes()
    process.kill(driver, 'SIGKILL')
    await eventually('all are gone', () => before.every((pid) => !job.processes().includes(pid)))
    expect(await job.refusal('click', { target: 'e1' })).toBe('no page is open: browser_open opens one')
    expect(await job.text('open', { url: site.url })).toContain('# Fine')
  })

  test('starts wherever the data are, also in a folder of which a socket could not bear the name', async () => {
    const site = await openSite({ '/': FINE })
    const job = await BrowserJob.start({ dataDir: join(await temporaryFolder(), 'long'.repeat(40)) })
    expect(await job.text('open', { url: site.url })).toContain('# Fine')
  })

  test('does one thing at a time, also where it is asked for several', async () => {
    const site = await openSite({ '/a': '<h1>A</h1>', '/b': '<h1>B</h1>' })
    const job = await BrowserJob.start()
    const calls = [
      ['open', { url: `${site.url}/a` }],
      ['read', {}],
      ['open', { url: `${site.url}/b` }],
      ['read', {}],
    ] as const
    const answers = await job.inside((ctx) =>
      Promise.all(calls.map(([name, input]) => toolNamed(name).run(ctx, input))),
    )
    const texts = answers.map((answer) => (typeof answer === 'string' ? answer : answer.text))
    expect(texts.map((text) => /^# (.)$/m.exec(text)?.[1])).toEqual(['A', 'A', 'B', 'B'])
  })

  test('is one for a job, whose cookies no other job sees', async () => {
    const site = await openSite({
      '/': (request, response) => {
        response.setHeader('set-cookie', 'seen=1')
        response.setHeader('content-type', 'text/html')
        response.end(`<p>cookie: ${request.headers.cookie ?? 'none'}</p>`)
      },
    })
    const [first, second] = [await BrowserJob.start(), await BrowserJob.start()]
    expect(await first.text('open', { url: site.url })).toContain('cookie: none')
    expect(await first.text('open', { url: site.url })).toContain('cookie: seen=1')
    expect(await second.text('open', { url: site.url })).toContain('cookie: none')
    const drivers = first.processes().filter((pid) => commandLine(pid).includes('driverMain'))
    expect(drivers).toHaveLength(1)
  })
})
