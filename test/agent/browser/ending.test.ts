import { describe, expect, test } from 'vitest'
import type { ContainmentLevel, Receipt } from '../../../src/job/receipt.ts'
import type { JobView } from '../../../src/job/view.ts'
import { availableLevels } from '../../processes/world.ts'
import { end, eventually, untilRunning } from '../../world.ts'
import { BrowserJob, commandLine, hasChromium, openSite, type Site } from './world.ts'

const [best] = await availableLevels()

/** The best that this machine gives, and the least. */
const LEVELS = [...new Set<ContainmentLevel>([best?.level ?? 'group', 'group'])]

const SITE = {
  '/': `<h1>Site</h1><button>B</button>`,
  // The button is out of sight and under a veil: a click scrolls to it, which is told, and waits for the veil to go.
  '/covered': `<body style="height:5000px"><button id=b style="position:absolute;top:4000px">B</button>
    <div style="position:fixed;inset:0">veil</div><script>onscroll = () => fetch('/scrolled')</script>`,
  '/blocking': `<button onclick="const r = new XMLHttpRequest(); r.open('GET', '/never', false); r.send()">B</button>`,
  '/looping': `<button onclick="navigator.sendBeacon('/loops'); for (;;);">B</button>`,
}

interface Phase {
  readonly name: string
  /** Settles when the job is in that phase. */
  readonly enter: (job: BrowserJob, site: Site) => Promise<unknown>
  /** Of the browser, at the least, that must have been seen. */
  readonly minProcesses: number
}

const browsers = (job: BrowserJob): readonly number[] =>
  job.processes().filter((pid) => commandLine(pid).includes('--user-data-dir'))

const PHASES: readonly Phase[] = [
  {
    name: 'before anything of the browser is there',
    async enter(job, site) {
      await untilRunning(job.tether, job.ref)
      void job.call('open', { url: site.url })
    },
    minProcesses: 0,
  },
  {
    name: 'while its driver starts',
    async enter(job, site) {
      void job.call('open', { url: site.url })
      await eventually('the driver is there', () => job.processes().length > 0)
    },
    minProcesses: 1,
  },
  {
    name: 'while Chromium starts',
    async enter(job, site) {
      void job.call('open', { url: site.url })
      await eventually('the browser is there', () => browsers(job).length > 0)
    },
    minProcesses: 2,
  },
  {
    name: 'while a page that never answers is loaded',
    async enter(job, site) {
      void site.hold('/never')
      void job.call('open', { url: `${site.url}/never` })
      await eventually('it is asked for', () => site.asked.includes('/never'), 30_000)
    },
    minProcesses: 5,
  },
  {
    name: 'while a click waits',
    async enter(job, site) {
      await job.text('open', { url: `${site.url}/covered` })
      void job.call('click', { target: '#b' })
      await eventually('it has scrolled', () => site.asked.includes('/scrolled'))
    },
    minProcesses: 5,
  },
  {
    name: 'in the middle of a click that the page does not let go of',
    async enter(job, site) {
      void site.hold('/never')
      await job.text('open', { url: `${site.url}/blocking` })
      void job.call('click', { target: 'e1' })
      await eventually('the page waits', () => site.asked.includes('/never'))
    },
    minProcesses: 5,
  },
  {
    name: 'while the page loops',
    async enter(job, site) {
      await job.text('open', { url: `${site.url}/looping` })
      void job.call('click', { target: 'e1' })
      await eventually('the page loops', () => site.asked.includes('/loops'))
    },
    minProcesses: 5,
  },
  {
    name: 'while a text is waited for',
    async enter(job, site) {
      await job.text('open', { url: site.url })
      void job.call('wait', { text: 'never', timeoutMs: 600_000 })
      await eventually('it has begun', async () => (await job.tether.jobs.job(job.ref)).lastSeq >= 5)
    },
    minProcesses: 5,
  },
  {
    name: 'after a screenshot',
    async enter(job, site) {
      await job.text('open', { url: site.url })
      await job.text('screenshot')
    },
    minProcesses: 5,
  },
]

function expectNothingLeft(job: BrowserJob, { receipt }: JobView, level: ContainmentLevel): Receipt {
  expect(job.processes()).toEqual([])
  expect(job.folders()).toEqual([])
  expect(receipt).toMatchObject({ confirmed: true, containment: { level }, survivors: [] })
  if (receipt === undefined) throw new Error('there is no receipt')
  return receipt
}

describe.skipIf(!hasChromium).each(LEVELS.map((level) => ({ level })))(
  'at the level $level',
  { timeout: 60_000 },
  ({ level }) => {
    test.each(PHASES)('a cancel $name leaves nothing', async ({ enter, minProcesses }) => {
      const site = await openSite(SITE)
      const job = await BrowserJob.start({ level })
      await enter(job, site)
      const view = await job.end('cancel')
      expect(view.status).toBe('cancelled')
      const receipt = expectNothingLeft(job, view, level)
      expect(receipt.released.processes).toBeGreaterThanOrEqual(minProcesses)
      expect(receipt.abortedToSettledMs).toBeLessThan(1500)
      expect(view.cancellation?.phase).toMatch(/^(?:running|tool:browser_\w+)$/)
    })

    test('a stop lets the call in flight finish', async () => {
      const site = await openSite(SITE)
      const job = await BrowserJob.start({ level })
      await job.text('open', { url: site.url })
      const held = site.hold('/slow')
      const opened = job.call('open', { url: `${site.url}/slow` })
      const response = await held
      await end(job.tether, job.ref, 'stop')
      response.end('<h1>Slow</h1>')
      expect((await opened).text).toContain('# Slow')
      const view = await job.tether.jobs.outcome(job.ref)
      expect(view.status).toBe('stopped')
      expect(expectNothingLeft(job, view, level).released.processes).toBeGreaterThanOrEqual(5)
    })

    test.each([
      ['an ordinary page', '/', 'e1'],
      ['a page that does not answer', '/looping', 'e1'],
    ])('the end of the job with %s ends the browser', async (_name, path, target) => {
      const site = await openSite(SITE)
      const job = await BrowserJob.start({ level })
      await job.text('open', { url: site.url + path })
      // As it is told while the page loops: at its own limit.
      const clicked = job.call('click', { target, timeoutMs: 1000 })
      if (path === '/looping') await eventually('the page loops', () => site.asked.includes('/loops'))
      await clicked
      const startedMs = performance.now()
      const view = await job.finish()
      expect(performance.now() - startedMs).toBeLessThan(3000)
      expect(view).toMatchObject({ status: 'succeeded', result: 'finished' })
      expect(job.processes()).toEqual([])
      expect(job.folders()).toEqual([])
    })
  },
)

describe.skipIf(!hasChromium)('a server', { timeout: 120_000 }, () => {
  test('keeps nothing of browsers that were ended in every way', async () => {
    const site = await openSite(SITE)
    const first = await BrowserJob.start()
    await first.finish()
    const before = resources()
    void site.hold('/never')
    const [loading, done, clicking, lost] = [
      await first.another(),
      await first.another(),
      await first.another(),
      await first.another(),
    ]
    void loading.call('open', { url: `${site.url}/never` })
    await done.text('open', { url: site.url })
    await done.text('screenshot')
    await lost.text('open', { url: site.url })
    for (const pid of browsers(lost)) process.kill(pid, 'SIGKILL')
    await lost.refusal('read')
    await clicking.text('open', { url: `${site.url}/covered` })
    void clicking.call('click', { target: '#b' })
    await eventually('it is asked for', () => site.asked.includes('/never') && site.asked.includes('/scrolled'), 30_000)
    // Each of them has two pipes and a deadline.
    expect(resources().length).toBeGreaterThan(before.length)
    await Promise.all([loading.end('cancel'), done.finish(), clicking.end('cancel'), lost.finish()])
    await eventually('nothing more is left than before', () => isWithin(resources(), before))
    for (const job of [loading, done, clicking, lost]) expect(job.processes()).toEqual([])
  })
})

/** What keeps this process busy, besides the connections of the test's own web server. */
function resources(): readonly string[] {
  return process.getActiveResourcesInfo().filter((kind) => !/TCPSocket|Immediate|TickObject/.test(kind))
}

/** Whether there are no more of each kind. */
function isWithin(now: readonly string[], before: readonly string[]): boolean {
  const count = (all: readonly string[], kind: string): number => all.filter((other) => other === kind).length
  return now.every((kind) => count(now, kind) <= count(before, kind))
}
