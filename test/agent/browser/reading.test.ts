import type { ServerResponse } from 'node:http'
import { describe, expect, test } from 'vitest'
import { BrowserJob, hasChromium, openSite } from './world.ts'

/** The lines of the page's text, without what stands around it. */
function linesOf(text: string): readonly string[] {
  const lines = text.split('\n')
  const start = lines.findIndex((line) => line.startsWith('--- page'))
  const end = lines.findLastIndex((line) => line.startsWith('--- '))
  return lines.slice(start + 1, end)
}

async function read(html: string): Promise<readonly string[]> {
  const site = await openSite({ '/': html })
  const job = await BrowserJob.start()
  return linesOf(await job.text('open', { url: site.url }))
}

describe.skipIf(!hasChromium)('the text of a page', () => {
  test('has its words in lines, and a ref at each thing that can be used', async () => {
    const lines = await read(`<title>Shop</title>
      <h1>The <i>small</i> shop</h1>
      <p>Read <a href="/about">about   us</a>,
        then <a href="https://example.com/x">leave</a>. <a href="#top">Up</a></p>
      <ul><li>One<li></li><li><b>Two</b></ul>
      <table><tr><th>Name<th>Price<tr><td>Tea<td>3</table>
      <pre>a\n  b</pre><hr><img src="" alt="A cat">
      <button disabled>Save</button><input type=submit value=Go>
      <div onclick="1">Old style</div><div style="cursor:pointer"><span>Styled</span></div><div role=tab aria-selected=true>Tab</div>`)
    expect(lines).toEqual([
      '# The small shop',
      'Read [e1 link "about us" /about], then [e2 link "leave" https://example.com/x]. [e3 link "Up"]',
      '- One',
      '- Two',
      'Name | Price',
      'Tea | 3',
      'a',
      '  b',
      '---',
      '(image "A cat") [e4 button "Save" disabled] [e5 button "Go"]',
      '[e6 clickable "Old style"]',
      '[e7 clickable "Styled"]',
      '[e8 tab "Tab" selected]',
    ])
  })

  test('tells what is in fields, but no password', async () => {
    const lines = await read(`
      <label>Name <input value="Ada"></label><br>
      <label for=p>Secret</label> <input id=p type=password value=hunter2><br>
      <input type=checkbox aria-label=Agree checked><input type=radio aria-label=Blue><br>
      <select aria-label=Size><option>S<option selected>M</select><br>
      <select aria-label=Many>${'<option>x'.repeat(1000)}</select><br>
      <textarea placeholder=Words readonly>some\nwords</textarea><br>
      <div contenteditable aria-label=Letter>Dear <b>you</b></div>
      <input type=email aria-label=Mail value=nonsense><br>
      <style>.switch { display: none }</style><label>Dark<input type=checkbox class=switch checked></label><br>
      <details><summary>More</summary>hidden</details><button aria-expanded=true>Menu</button>`)
    expect(lines).toEqual([
      'Name [e1 textbox "Name" = "Ada"]',
      'Secret [e2 textbox "Secret" filled]',
      '[e3 checkbox "Agree" checked] [e4 radio "Blue" not checked]',
      '[e5 select "Size" = "M" of "S", "M"]',
      `[e6 select "Many" = "x" of ${Array.from({ length: 25 }, () => '"x"').join(', ')}, … 1000 in all]`,
      '[e7 textbox "Words" = "some words" read-only]',
      '[e8 textbox "Letter" = "Dear you"]',
      '[e9 textbox "Mail" = "nonsense" invalid]',
      '[e10 checkbox "Dark" checked]',
      '[e11 button "More" collapsed]',
      '[e12 button "Menu" expanded]',
    ])
  })

  test('leaves out what is not shown, and finds what is in shadow trees', async () => {
    const lines = await read(`
      <p style="display:none">no <a href=/x>no</a></p><p style="visibility:hidden">no <i style="visibility:visible">but this</i></p>
      <script>1</script><style>p {}</style><template>no</template><noscript>no</noscript>
      <div style="display:contents">contents</div>
      <x-box><span>slotted</span></x-box>
      <script>
        const root = document.querySelector('x-box').attachShadow({ mode: 'open' })
        root.innerHTML = '<p>before</p><slot></slot><button>Inside</button>'
      </script>`)
    expect(lines).toEqual(['but this', 'contents', 'before', 'slotted [e1 button "Inside"]'])
  })

  test('is the same under a strict policy, and whatever the page does to its own objects', async () => {
    const site = await openSite({
      '/strict': (_request, response) => {
        response.setHeader('content-type', 'text/html')
        response.setHeader(
          'content-security-policy',
          "default-src 'none'; require-trusted-types-for 'script'; sandbox allow-same-origin",
        )
        response.end('<h1>Strict</h1><button>B</button>')
      },
      '/tampered': `<h1>Tampered</h1><button>B</button><script>
        const lie = () => { throw new Error('tampered') }
        for (const type of [Array, Map, WeakMap, Set, String, RegExp, Node, Element, HTMLElement, Document]) {
          for (const name of Object.getOwnPropertyNames(type.prototype)) try { type.prototype[name] = lie } catch {}
        }
        JSON.stringify = document.createElement = getComputedStyle = lie
      </script>`,
    })
    const job = await BrowserJob.start()
    expect(linesOf(await job.text('open', { url: `${site.url}/strict` }))).toEqual(['# Strict', '[e1 button "B"]'])
    expect(linesOf(await job.text('open', { url: `${site.url}/tampered` }))).toEqual(['# Tampered', '[e1 button "B"]'])
  })

  test('has the frames after the page, with refs of their own, also those of other sites', async () => {
    const inner = await openSite({ '/': '<p>of another site</p><button onclick="this.textContent = 1">In</button>' })
    const site = await openSite({
      '/': `<p>outside</p><button>Out</button>
        <iframe title=near srcdoc="<p>near</p><button>Near</button>" width=200 height=100></iframe>
        <iframe title=far src="${inner.url.replace('127.0.0.1', 'localhost')}" width=200 height=100></iframe>
        <iframe src="/tracker" width=1 height=1></iframe><iframe src="/tracker" style="display:none"></iframe>`,
      '/tracker': 'nobody sees this',
    })
    const job = await BrowserJob.start()
    const text = await job.text('open', { url: site.url })
    expect(linesOf(text)).toEqual([
      'outside',
      '[e1 button "Out"] (frame "near") (frame "far") (frame "")',
      '--- frame f1 (about:srcdoc) ---',
      'near',
      '[f1e1 button "Near"]',
      `--- frame f2 (${inner.url.replace('127.0.0.1', 'localhost')}/) ---`,
      'of another site',
      '[f2e1 button "In"]',
    ])
    expect(await job.text('click', { target: 'f2e1' })).toContain('[f2e1 button "1"')
  })

  test('keeps the ref of an element as long as that is there', async () => {
    const site = await openSite({
      '/': `<button onclick="this.insertAdjacentHTML('beforebegin', '<button>New</button>')">Add</button><button>Last</button>`,
    })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    const text = await job.text('click', { target: 'e1' })
    expect(text).toContain('[e3 button "New"] [e1 button "Add" focused] [e2 button "Last"]')
  })

  test('is cut, says so, and goes on at an offset without gap or repeat, across frames', async () => {
    const words = Array.from({ length: 400 }, (_, index) => `<p>word ${index}</p>`).join('')
    const site = await openSite({ '/': `${words}<iframe srcdoc="${words}" width=200 height=200></iframe>` })
    const job = await BrowserJob.start()
    const first = await job.text('open', { url: site.url, maxCharacters: 50 })
    expect(first).toContain('--- cut after character 50: browser_read with offset 50 goes on ---')
    expect(linesOf(first).join('\n')).toHaveLength(50)
    let all = ''
    let parts = 0
    for (let offset: number | undefined = 0; offset !== undefined; parts += 1) {
      const part = await job.text('read', { offset, maxCharacters: 700 })
      all += linesOf(part)
        .filter((line) => !line.startsWith('--- frame'))
        .join('')
      offset = Number(/offset (\d+) goes on/.exec(part)?.[1] ?? Number.NaN)
      if (Number.isNaN(offset)) offset = undefined
    }
    const expected = Array.from({ length: 400 }, (_, index) => `word ${index}`).join('')
    expect(all.replaceAll('(frame "")', '')).toBe(expected + expected)
    expect(parts).toBeGreaterThan(5)
    expect(await job.text('read', { offset: 1_000_000 })).toContain('(nothing is left there)\n--- end of the page ---')
  })

  test('can be that of one part', async () => {
    const site = await openSite({ '/': '<p>not this</p><section id=s><h2>This</h2><a href=/x>X</a></section>' })
    const job = await BrowserJob.start()
    await job.text('open', { url: site.url })
    expect(linesOf(await job.text('read', { target: '#s' }))).toEqual(['## This', '[e1 link "X" /x]'])
    expect(linesOf(await job.text('read', { target: 'e1' }))).toEqual(['[e1 link "X" /x]'])
  })

  test('of a page with thousands of links comes at once, and cut', async () => {
    const site = await openSite({
      '/': `<script>document.write(Array.from({ length: 20000 }, (_, n) => '<a href="/' + n + '">link ' + n + '</a> ').join(''))</script>`,
    })
    const job = await BrowserJob.start()
    const text = await job.text('open', { url: site.url })
    expect(text.length).toBeLessThan(9000)
    expect(text).toContain('[e1 link "link 0" /0] [e2 link "link 1" /1]')
    expect(text).toMatch(/cut after character 8000: browser_read with offset 8000 goes on/)
    expect(await job.text('click', { target: 'e200' })).toContain(`${site.url}/199`)
  })

  test('of 100 MB is read no further than asked', { timeout: 120_000 }, async () => {
    const site = await openSite({
      // What is out of sight is not laid out: that alone takes Chromium half a minute.
      '/': `<h1>Large</h1><style>pre { content-visibility: auto; contain-intrinsic-size: 1px 1px }</style><script>
        const text = ('0123456789'.repeat(8) + '\\n').repeat(12500)
        for (let n = 0; n < 100; n += 1) document.body.appendChild(document.createElement('pre')).append(text)
      </script>`,
    })
    const job = await BrowserJob.start()
    const text = await job.text('open', { url: site.url, timeoutMs: 100_000 })
    expect(text.length).toBeLessThan(9000)
    expect(linesOf(text).slice(0, 2)).toEqual(['# Large', '0123456789'.repeat(8)])
    expect(text).toContain('goes on')
    const later = await job.text('read', { offset: 50_000_000, maxCharacters: 100 })
    expect(linesOf(later).join('')).toMatch(/^\d+$/)
  })

  test('ends somewhere, however deep the page is', async () => {
    const site = await openSite({
      '/': `<p>before</p><script>
        let inner = document.body
        for (let n = 0; n < 2000; n += 1) inner = inner.appendChild(document.createElement('span'))
        inner.textContent = 'deep'
      </script>`,
    })
    const job = await BrowserJob.start()
    const text = await job.text('open', { url: site.url })
    expect(linesOf(text)).toEqual(['before'])
    expect(text).toContain('the page is too large to be read on')
  })

  test('can be that of an empty page, plain text, JSON or an image', async () => {
    const typed = (type: string, body: string | Buffer) => (_request: unknown, response: ServerResponse) => {
      response.setHeader('content-type', type)
      response.end(body)
    }
    const pixel = Buffer.from('R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==', 'base64')
    const site = await openSite({
      '/empty': ' ',
      '/text': typed('text/plain', 'a <b>\n c'),
      '/json': typed('application/json', '{"a":1}'),
      '/image': typed('image/gif', pixel),
    })
    const job = await BrowserJob.start()
    expect(await job.text('open', { url: `${site.url}/empty` })).toContain('(there is nothing to read on it)')
    expect(linesOf(await job.text('open', { url: `${site.url}/text` }))).toEqual(['a <b>', ' c'])
    expect(linesOf(await job.text('open', { url: `${site.url}/json` })).join('')).toContain('{"a":1}')
    expect(await job.text('open', { url: `${site.url}/image` })).toContain('/image')
  })
})
