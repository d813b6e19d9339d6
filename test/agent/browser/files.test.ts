import { mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { safeName } from '../../../src/execution/agent/browser/driver/safeName.ts'
import { temporaryFolder } from '../../world.ts'
import { BrowserJob, hasChromium, openSite } from './world.ts'

const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])

function* endless(): Generator<Buffer> {
  const piece = Buffer.alloc(1024 * 1024)
  for (;;) yield piece
}

async function artifactsOf(job: BrowserJob) {
  await job.finish()
  return (await job.events()).flatMap((event) => (event.type === 'artifact' ? [event] : []))
}

describe.skipIf(!hasChromium)('a screenshot', { timeout: 60_000 }, () => {
  test('goes into the workspace as a PNG, numbered, and is announced', async () => {
    const site = await openSite({
      '/': '<body style="margin:0;height:3000px"><div id=d style="width:70px;height:50px">x</div>',
    })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    expect(await job.text('screenshot')).toMatch(/^Saved screenshots\/1\.png \(1280×\d+ pixels, \d+ bytes\)\.$/)
    expect(await job.text('screenshot', { fullPage: true })).toMatch(/^Saved screenshots\/2\.png \(1280×3000 pixels/)
    expect(await job.text('screenshot', { target: '#d' })).toMatch(/^Saved screenshots\/3\.png \(70×50 pixels/)
    const png = readFileSync(join(job.workspace, 'screenshots/3.png'))
    expect(png.subarray(0, 8)).toEqual(PNG)
    expect(await artifactsOf(job)).toMatchObject([
      { path: 'screenshots/1.png', mediaType: 'image/png' },
      { path: 'screenshots/2.png', mediaType: 'image/png' },
      { path: 'screenshots/3.png', mediaType: 'image/png', bytes: png.length },
    ])
  })

  test('of an endless page is cut, and of what is too large refused, naming what may be done', async () => {
    const site = await openSite({
      '/': `<body style="margin:0;height:100000px"><div id=d style="height:90000px">x</div>`,
      '/noise': `<body style="margin:0"><canvas width=1280 height=8000></canvas><script>
        const context = document.querySelector('canvas').getContext('2d')
        const image = context.createImageData(1280, 8000)
        for (let at = 0; at < image.data.length; at += 65536) crypto.getRandomValues(image.data.subarray(at, at + 65536))
        for (let at = 3; at < image.data.length; at += 4) image.data[at] = 255
        context.putImageData(image, 0, 0)
      </script>`,
    })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    expect(await job.text('screenshot', { fullPage: true })).toMatch(
      /1280×8000 pixels, \d+ bytes; the page goes on below/,
    )
    expect(await job.refusal('screenshot', { target: '#d' })).toContain('it has 1280×90000 pixels, and 4096×8000 are')
    expect(await job.refusal('screenshot', { target: '#none', timeoutMs: 1000 })).toContain(
      "waiting for locator('#none')",
    )
    await job.text('open', { url: `${site.url}/noise` })
    expect(await job.refusal('screenshot', { fullPage: true })).toMatch(
      /the picture has \d+ bytes, and 10485760 are allowed/,
    )
    expect(readdirSync(join(job.workspace, 'screenshots'))).toEqual(['1.png'])
  })

  test('never goes through a link that leads out of the workspace', async () => {
    const site = await openSite({ '/': '<h1>x</h1>' })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    const outside = await temporaryFolder()
    symlinkSync(outside, join(job.workspace, 'screenshots'))
    expect(await job.refusal('screenshot')).toContain(
      'leads out of the workspace through the symbolic link "screenshots"',
    )
    expect(readdirSync(outside)).toEqual([])
  })

  test('does not write over a link that was put in its place', async () => {
    const site = await openSite({ '/': '<h1>x</h1>' })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    const outside = join(await temporaryFolder(), 'target')
    mkdirSync(join(job.workspace, 'screenshots'))
    symlinkSync(outside, join(job.workspace, 'screenshots/1.png'))
    expect(await job.text('screenshot')).toContain('Saved screenshots/2.png')
    expect(() => readFileSync(outside)).toThrow('ENOENT')
  })
})

describe.skipIf(!hasChromium)('a download', { timeout: 60_000 }, () => {
  test('goes into the workspace under a harmless name, and is announced, whether opened or clicked', async () => {
    const site = await openSite({
      '/': `<a href="/file" download>Get</a><a href="/other" download="../../evil.sh">Other</a>`,
      '/file': (_request, response) => {
        response.setHeader('content-disposition', 'attachment; filename="report 2026.csv"')
        response.end('a,b\n1,2\n')
      },
      '/other': 'other',
    })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    expect(await job.text('click', { target: 'e1' })).toContain(
      'A file was downloaded: downloads/report 2026.csv (8 bytes).',
    )
    expect(await job.text('click', { target: 'e2' })).toMatch(/downloaded: downloads\/[\w.]*evil\.sh \(5 bytes\)/)
    const again = await job.text('open', { url: `${site.url}/file` })
    expect(again).toContain('The address is a file.')
    expect(again).toContain('downloads/report 2026-2.csv (8 bytes)')
    expect(readFileSync(join(job.workspace, 'downloads/report 2026-2.csv'), 'utf8')).toBe('a,b\n1,2\n')
    const artifacts = await artifactsOf(job)
    expect(artifacts.map(({ path }) => path)).toEqual([
      'downloads/report 2026.csv',
      expect.stringMatching(/evil\.sh$/),
      'downloads/report 2026-2.csv',
    ])
  })

  test('is what becomes of a PDF, of which a browser without a window shows nothing', async () => {
    const site = await openSite({
      '/': '<h1>Shelf</h1><a href="/a.pdf">Get</a>',
      '/a.pdf': (_request, response) => {
        response.setHeader('content-type', 'application/pdf')
        response.end('%PDF-1.4')
      },
    })
    const job = await BrowserJob.start()
    expect(await job.text('open', { url: `${site.url}/a.pdf` })).toContain('downloads/a.pdf (8 bytes)')
    await job.text('open', { url: site.url })
    const text = await job.text('click', { target: 'e1' })
    expect(text).toContain('downloads/a-2.pdf (8 bytes)')
    expect(text).toContain('# Shelf')
  })

  test('that a link opens in a new tab leaves the page as it is', async () => {
    const site = await openSite({
      '/': '<h1>Shelf</h1><a href="/file" target=_blank>Get</a>',
      '/file': (_request, response) => {
        response.setHeader('content-disposition', 'attachment; filename=a.zip')
        response.end('zip')
      },
    })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    await job.text('click', { target: 'e1' })
    const text = await job.text('wait')
    expect(text).toContain('# Shelf')
    expect(readFileSync(join(job.workspace, 'downloads/a.zip'), 'utf8')).toBe('zip')
  })

  test('that is still running is told, and that it arrived with a later answer', async () => {
    const site = await openSite({ '/': '<a href="/file">Get</a>' })
    const held = site.hold('/file')
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    const clicked = job.text('click', { target: 'e1', timeoutMs: 5000 })
    const response = await held
    response.writeHead(200, { 'content-type': 'application/zip', 'content-length': 100_000 })
    response.write('x'.repeat(50_000))
    expect(await clicked).toContain('A file is still being downloaded.')
    response.end('x'.repeat(50_000))
    expect(await job.text('wait')).toMatch(
      /A file was downloaded: downloads\/file\S* \(100000 bytes\)\.|still being downloaded/,
    )
    expect((await artifactsOf(job)).length).toBeLessThan(2)
  })

  test('of more than is allowed is cancelled', async () => {
    const site = await openSite({
      '/': '<h1>Shelf</h1><a href="/huge">Get</a>',
      '/huge': (_request, response) => {
        response.writeHead(200, { 'content-type': 'application/zip' })
        Readable.from(endless()).pipe(response)
      },
    })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    let text = await job.text('click', { target: 'e1' })
    while (text.includes('still being downloaded')) text = await job.text('wait')
    expect(text).toContain('Downloads may have 268435456 bytes together: what was running was cancelled.')
    expect(text).toMatch(/The download of "huge\S*" failed: canceled/)
    expect(text).toContain('# Shelf')
    expect(await artifactsOf(job)).toEqual([])
  })

  test('that breaks off is told', async () => {
    const site = await openSite({
      '/': '<a href="/file">Get</a>',
      '/file': (_request, response) => {
        response.writeHead(200, { 'content-type': 'application/zip', 'content-length': 100_000 })
        response.write('x'.repeat(1000), () => response.destroy())
      },
    })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    expect(await job.text('click', { target: 'e1' })).toMatch(/The download of "file\S*" failed/)
    expect(await artifactsOf(job)).toEqual([])
  })
})

test.each([
  ['report.csv', 'report.csv'],
  ['../../etc/passwd', 'etc_passwd'],
  ['..', 'file'],
  ['', 'file'],
  ['.bashrc', 'bashrc'],
  ['-rf', 'rf'],
  ['a/b\\c:d*e?"f<g>|h', 'a_b_c_d_e__f_g__h'],
  ['a\u0000b\u001b[31m\nc', 'a_b__31m_c'],
  ['\u202egnp.exe', 'gnp.exe'],
  ['Größe 你好 (1).pdf', 'Größe 你好 (1).pdf'],
])('a file that a site calls %j is %j', (wanted, name) => {
  expect(safeName(wanted)).toBe(name)
})

test('a long name keeps its extension, and one that is taken gets a number before it', () => {
  expect(Buffer.byteLength(safeName(`${'ü'.repeat(500)}.tar.gz`))).toBeLessThanOrEqual(120)
  expect(safeName(`${'ü'.repeat(500)}.tar.gz`)).toMatch(/ü\.gz$/)
  expect(safeName('a.txt', 3)).toBe('a-3.txt')
  expect(safeName('a'.repeat(500), 12)).toMatch(/a-12$/)
})
