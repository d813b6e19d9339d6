import { once } from 'node:events'
import { createServer as createSecureServer } from 'node:https'
import { type AddressInfo, createServer as createPlainServer } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { selfSigned } from './selfSigned.ts'
import { BrowserJob, hasChromium, openSite } from './world.ts'

describe.skipIf(!hasChromium)('an address', () => {
  test.each([
    ['file:///etc/passwd'],
    ['FILE:///etc/passwd'],
    ['view-source:file:///etc/passwd'],
    ['chrome://version'],
    ['chrome-extension://abc/x.html'],
    ['devtools://devtools/bundled/inspector.html'],
    ['javascript:alert(1)'],
    ['data:text/html,<h1>x'],
    ['about:version'],
    ['ftp://example.com/'],
    ['blob:http://example.com/x'],
  ])('%s is refused, saying what may be opened', async (url) => {
    const job = await BrowserJob.start()
    await expect(job.call('open', { url })).rejects.toThrow(
      `url must begin with http:// or https://, got ${JSON.stringify(url)}; to look at files of the workspace, serve them`,
    )
    expect(job.processes()).toEqual([])
  })

  test.each([['example.com'], ['//example.com/'], ['/etc/passwd'], ['']])('%j is refused as none', async (url) => {
    const job = await BrowserJob.start()
    await expect(job.call('open', { url })).rejects.toThrow('url must be a whole address such as https://example.com/')
  })

  test('is opened with its status, and about:blank without', async () => {
    const site = await openSite({
      '/broken': (_request, response) => {
        response.writeHead(500, { 'content-type': 'text/html' }).end('<h1>Broken</h1>')
      },
      '/moved': (_request, response) => {
        response.writeHead(302, { location: '/there' }).end()
      },
      '/there': '<h1>There</h1>',
    })
    const job = await BrowserJob.start()
    expect(await job.text('open', { url: `${site.url}/nothing` })).toContain('/nothing (status 404).')
    expect(await job.text('open', { url: `${site.url}/broken` })).toContain('/broken (status 500).')
    expect(await job.text('open', { url: `${site.url}/moved` })).toContain(`Opened ${site.url}/there (status 200).`)
    expect(await job.text('open', { url: 'about:blank' })).toContain('Opened about:blank.')
  })

  test('that cannot be reached is told with the reason, and the browser can be used on', async () => {
    const silent = createPlainServer((socket) => socket.destroy())
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    onTestFinished(() => void silent.close())
    const { port } = silent.address() as AddressInfo
    const site = await openSite({
      '/circle': (_request, response) => {
        response.writeHead(302, { location: '/circle' }).end()
      },
      '/': '<h1>Fine</h1>',
    })
    const job = await BrowserJob.start()
    const refusals = [
      ['http://no-such-host.invalid/', 'there is no such host (ERR_NAME_NOT_RESOLVED)'],
      ['http://127.0.0.1:1/', 'ERR_UNSAFE_PORT'],
      [`http://127.0.0.1:${port}/`, 'the server closed the connection without an answer'],
      [`${site.url}/circle`, 'it redirects in a circle (ERR_TOO_MANY_REDIRECTS)'],
    ] as const
    for (const [url, reason] of refusals) {
      const text = await job.refusal('open', { url })
      expect(text).toContain(`${url} could not be opened: `)
      expect(text).toContain(reason)
    }
    expect(await job.text('open', { url: site.url })).toContain('# Fine')
  })

  test('whose certificate nobody vouches for is not opened', async () => {
    const server = createSecureServer(selfSigned, (_request, response) => response.end('<h1>Secret</h1>'))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => {
      server.close()
      server.closeAllConnections()
    })
    const { port } = server.address() as AddressInfo
    const job = await BrowserJob.start()
    const text = await job.refusal('open', { url: `https://localhost:${port}/` })
    expect(text).toContain('no certificate that can be trusted, and this browser does not go on without one (ERR_CERT_')
    expect(text).not.toContain('Secret')
  })

  test.each([
    ['a redirect to a file', '/redirect'],
    ['a page that goes to a file', '/script'],
    ['a link to a file', '/link'],
    ['a window on a file', '/window'],
    ['a frame with a file', '/frame'],
    ["a window on the browser's own pages", '/chrome'],
  ])('of a file or of the browser is not reached by %s', async (_name, path) => {
    const site = await openSite({
      '/redirect': (_request, response) => {
        response.writeHead(302, { location: 'file:///etc/passwd' }).end()
      },
      '/script': `<script>location.href = 'file:///etc/passwd'</script>`,
      '/link': `<a id=go href="file:///etc/passwd">Go</a>`,
      '/window': `<button id=go onclick="window.open('file:///etc/passwd')">Go</button>`,
      '/frame': `<iframe src="file:///etc/passwd" width=400 height=400></iframe>`,
      '/chrome': `<button id=go onclick="window.open('chrome://version')">Go</button>`,
    })
    const job = await BrowserJob.start()
    const { text } = await job.call('open', { url: site.url + path })
    const after = await job.call('click', { target: '#go', timeoutMs: 1000 })
    const now = await job.call('read')
    expect(`${text}${after.text}${now.text}`).not.toMatch(/root:|page [^\n]*(?:file|chrome):\/\/|Command Line/)
    expect(await job.text('open', { url: `${site.url}/link` })).toContain('link "Go"')
  })
})
