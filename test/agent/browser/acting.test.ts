import { describe, expect, test } from 'vitest'
import { ToolSet } from '../../../src/execution/agent/ToolSet.ts'
import { BrowserJob, hasChromium, openSite, TOOLS } from './world.ts'

async function open(html: string, more: Readonly<Record<string, string>> = {}) {
  const site = await openSite({ '/': html, ...more })
  const job = await BrowserJob.start()
  const text = await job.text('open', { url: site.url })
  return { site, job, text }
}

test.runIf(hasChromium)('the tools are those of the contract, and say what they take', () => {
  expect(TOOLS.map(({ name }) => name)).toEqual([
    'browser_open',
    'browser_click',
    'browser_type',
    'browser_read',
    'browser_wait',
    'browser_back',
    'browser_screenshot',
  ])
  for (const { input, description } of TOOLS) {
    expect(description.length).toBeGreaterThan(40)
    expect(input).toMatchObject({ type: 'object', additionalProperties: false })
  }
})

test.runIf(hasChromium)("an agent's calls are checked, run, and answered in its words", async () => {
  const site = await openSite({ '/': '<h1>Hello</h1><button>B</button>' })
  const job = await BrowserJob.start()
  const tools = new ToolSet(TOOLS)
  const call = (toolName: string, input: object) =>
    ({ type: 'tool-call', toolCallId: toolName, toolName, input: JSON.stringify(input) }) as const
  const results = await job.inside((ctx) =>
    tools.answer(ctx, [
      call('browser_click', { target: '' }),
      call('browser_open', { url: 'file:///etc/passwd' }),
      call('browser_open', { url: site.url, maxCharacters: 1e9 }),
      call('browser_open', { url: site.url }),
      call('browser_type', { target: 'e1', dialogs: 'maybe' }),
      call('browser_click', { target: 'e1', dialogs: 'accept', double: true, timeoutMs: 5000, maxCharacters: 0 }),
    ]),
  )
  expect(results.map((result) => (result.type === 'tool-result' ? result.output : undefined))).toEqual([
    { type: 'error-text', value: expect.stringContaining('input.target') },
    { type: 'error-text', value: expect.stringContaining('url must begin with http:// or https://') },
    { type: 'error-text', value: expect.stringContaining('input.maxCharacters') },
    { type: 'text', value: expect.stringContaining('# Hello') },
    { type: 'error-text', value: expect.stringContaining('input.dialogs') },
    { type: 'text', value: expect.stringContaining('Clicked e1.') },
  ])
  await job.finish()
  const events = await job.events()
  expect(events.flatMap((event) => (event.type === 'tool.finished' ? [event.summary] : []))).toContain(
    `Opened ${site.url}/ (status 200).`,
  )
})

describe.skipIf(!hasChromium)('a click', () => {
  test('takes a ref, a selector or a text, and tells what comes of it', async () => {
    const { job, site, text } = await open(
      `<button onclick="out.textContent += 'a'">A</button> <button id=b ondblclick="out.textContent += 'b'">B</button>
       <a href="/next">Next</a><p id=out>:</p>`,
      { '/next': '<h1>The next one</h1>' },
    )
    expect(text).toContain('[e1 button "A"]')
    expect(await job.text('click', { target: '[e1]' })).toContain('\n:a\n')
    expect(await job.text('click', { target: '#b', double: true })).toContain('\n:ab\n')
    const next = await job.text('click', { target: 'text=Next' })
    expect(next).toContain(`Clicked text=Next.\n--- page ${site.url}/next ---\n# The next one`)
    const back = await job.text('back')
    expect(back).toContain(`Went back to ${site.url}/.`)
    expect(back).toContain('button "A"')
  })

  test('waits for what the page fetches because of it', async () => {
    const { job, site } = await open(
      `<button onclick="fetch('/slow').then((r) => r.text()).then((t) => { out.textContent = t })">Load</button><p id=out></p>`,
    )
    site.answers.set('/slow', (_request, response) => {
      setTimeout(() => response.end('fetched'), 400)
    })
    expect(await job.text('click', { target: 'e1' })).toContain('\nfetched\n')
  })

  test('that cannot be done says why, and shows the page', async () => {
    const { job } = await open(
      `<button>Twin</button><button>Twin</button><button id=under>Under</button>
       <div style="position:fixed;inset:0">a veil over everything</div>`,
    )
    const twin = await job.refusal('click', { target: 'text=Twin' })
    expect(twin).toContain('resolved to 2 elements')
    expect(twin).toContain('a veil over everything')
    const covered = await job.refusal('click', { target: '#under', timeoutMs: 1500 })
    expect(covered).toMatch(/a veil over everything<\/div> intercepts pointer events/)
    expect(await job.refusal('click', { target: '#absent', timeoutMs: 1000 })).toContain(
      "waiting for locator('#absent')",
    )
    expect(await job.refusal('click', { target: 'e99' })).toContain('there is no e99 on the page now')
    expect(await job.refusal('click', { target: 'f7e1' })).toContain('there is no f7e1 on the page now')
    expect(await job.refusal('click', { target: '>>>' })).toMatch(/selector|parse/i)
  })

  test('on a ref of a page that is gone is refused, not taken for another element', async () => {
    const { job, site } = await open('<button>First</button>', { '/other': '<p>no button here</p>' })
    await job.text('open', { url: `${site.url}/other` })
    expect(await job.refusal('click', { target: 'e1' })).toContain('there is no e1 on the page now')
  })

  test('before any page is open, as every tool but browser_open, says what to do', async () => {
    const job = await BrowserJob.start()
    for (const [name, input] of [
      ['click', { target: 'e1' }],
      ['type', { press: 'Enter' }],
      ['read', {}],
      ['wait', {}],
      ['back', {}],
      ['screenshot', {}],
    ] as const) {
      expect(await job.refusal(name, input)).toBe('no page is open: browser_open opens one')
    }
    expect(job.processes()).toEqual([])
  })
})

describe.skipIf(!hasChromium)('typing', () => {
  test('replaces what is in a field, takes choices, adds key by key, and presses keys', async () => {
    const { job } = await open(`
      <form onsubmit="out.textContent = 'sent ' + f.value + ' ' + s.value; return false">
        <input id=f aria-label=Field value=old><select id=s aria-label=Size><option value=s>Small<option value=l>Large</select>
        <textarea aria-label=Area></textarea><div contenteditable aria-label=Letter>Dear</div></form><p id=out></p>`)
    expect(await job.text('type', { target: 'e1', text: 'new' })).toContain('[e1 textbox "Field" = "new"')
    expect(await job.text('type', { target: 'e1', text: 'er', keyByKey: true })).toContain('= "newer"')
    expect(await job.text('type', { target: 'e2', text: 'Large' })).toContain('= "Large" of "Small", "Large"')
    expect(await job.text('type', { target: 'e3', text: 'a\nb' })).toContain('[e3 textbox "Area" = "a b"')
    expect(await job.text('type', { target: 'e4', text: 'Yours' })).toContain('[e4 textbox "Letter" = "Yours"')
    expect(await job.text('type', { target: 'e1', press: 'Enter' })).toContain('\nsent newer l\n')
    // Without a target it goes where the focus is.
    await job.text('click', { target: 'e1' })
    await job.text('type', { press: 'Control+A' })
    expect(await job.text('type', { text: 'focused', press: 'Enter' })).toContain('\nsent focused l\n')
  })

  test('that cannot be done says why', async () => {
    const { job } = await open(
      '<select aria-label=Size><option>Small</select><input type=file aria-label=File><input type=checkbox aria-label=Box><p id=p>no field</p>',
    )
    expect(await job.refusal('type', { target: 'e1', text: 'Huge' })).toContain('there is no choice "Huge" in it')
    expect(await job.refusal('type', { target: 'e2', text: '/etc/passwd' })).toContain('files cannot be uploaded')
    expect(await job.refusal('type', { target: 'e3', text: 'x' })).toContain('cannot be filled')
    expect(await job.refusal('type', { target: '#p', text: 'x' })).toContain('not an <input>')
    expect(await job.refusal('type', { target: 'e3', press: 'Nonsense' })).toContain('Unknown key: "Nonsense"')
    expect(await job.refusal('type', { target: 'e3' })).toBe('pass text, press, or both')
  })
})

describe.skipIf(!hasChromium)('waiting', () => {
  test('ends when the text is there, or gone', async () => {
    const { job, site } = await open(
      `<p id=out>working</p><script>fetch('/done').then((r) => r.text()).then((t) => { out.textContent = t })</script>`,
      {},
    )
    const held = site.hold('/done')
    await job.text('open', { url: site.url, timeoutMs: 3000 })
    const there = job.text('wait', { text: 'all done' })
    ;(await held).end('all done')
    expect(await there).toContain('"all done" is there.')
    expect(await job.text('wait', { text: 'working', gone: true })).toContain('"working" is gone.')
    expect(await job.refusal('wait', { text: 'never', timeoutMs: 500 })).toContain(
      '"never" was not there after 500 ms.',
    )
    expect(await job.refusal('wait', { text: 'all done', gone: true, timeoutMs: 500 })).toContain('was still there')
    expect(await job.text('wait')).toContain('The page is at rest.')
  })
})

describe.skipIf(!hasChromium)('a dialog', () => {
  test('is answered at once, and told with what it asked; a confirm is accepted where that was said', async () => {
    const { job } = await open(`<p id=out></p>
      <button onclick="alert('hello'); out.textContent = 'after'">Alert</button>
      <button onclick="out.textContent = 'confirm ' + confirm('sure?')">Confirm</button>
      <button onclick="out.textContent = 'prompt ' + prompt('who?', 'Ada')">Prompt</button>`)
    const alert = await job.text('click', { target: 'e1' })
    expect(alert).toContain('The page said (alert): "hello"')
    expect(alert).toContain('\nafter\n')
    const dismissed = await job.text('click', { target: 'e2' })
    expect(dismissed).toContain('The page asked (confirm): "sure?"; it was dismissed (Cancel); to answer with OK, pass')
    expect(dismissed).toContain('\nconfirm false\n')
    expect(await job.text('click', { target: 'e2', dialogs: 'accept' })).toContain('\nconfirm true\n')
    // The next call is not bound by it.
    expect(await job.text('click', { target: 'e3' })).toContain('\nprompt null\n')
    expect(await job.text('click', { target: 'e3', dialogs: 'accept' })).toContain('\nprompt Ada\n')
  })

  test('that asks whether to leave the page does not hold anybody', async () => {
    const { job, site } = await open(
      `<button>B</button><script>onbeforeunload = (event) => { event.preventDefault(); return 'stay' }</script>`,
      { '/next': '<h1>Next</h1>' },
    )
    await job.text('click', { target: 'e1' })
    const text = await job.text('open', { url: `${site.url}/next` })
    expect(text).toContain('The page asked whether to leave it; it was left.')
    expect(text).toContain('# Next')
  })

  test('that comes again and again is told of a few times', async () => {
    const { job } = await open(`<button onclick="for (let n = 0; n < 100; n += 1) alert('x'.repeat(1e6))">B</button>`)
    const text = await job.text('click', { target: 'e1', timeoutMs: 60_000 })
    expect(text.match(/said \(alert\)/g)).toHaveLength(12)
    expect(text).toContain('(88 more like these)')
    expect(text.length).toBeLessThan(10_000)
  })
})

describe.skipIf(!hasChromium)('a tab', () => {
  test('that a click opens is the current one, until browser_back closes it', async () => {
    const { job } = await open(
      '<h1>Opener</h1><a href="/popup" target=_blank>Open</a><button onclick="window.open(\'/popup\')">Script</button>',
      { '/popup': '<h1>Popup</h1>' },
    )
    for (const target of ['e1', 'e2']) {
      const text = await job.text('click', { target })
      expect(text).toContain('A new tab opened and is the current one now; browser_back closes it.')
      expect(text).toContain('# Popup')
      const back = await job.text('back')
      expect(back).toContain('Closed the tab')
      expect(back).toContain('# Opener')
    }
    // The page that a browser begins with.
    expect(await job.text('back')).toContain('Went back to about:blank.')
    expect(await job.refusal('back')).toContain('there is no page before this one')
  })

  test('that closes itself gives way to the one before it, and the last one to an empty page', async () => {
    const { job, site } = await open('<h1>Opener</h1><a href="/popup" target=_blank>Open</a>', {
      '/popup': '<h1>Popup</h1><button onclick="window.close()">Close</button>',
    })
    await job.text('click', { target: 'e1' })
    const closed = await job.text('click', { target: 'e1' })
    expect(closed).toContain('A tab was closed by its page.')
    expect(closed).toContain('# Opener')
    await job.text('open', { url: `${site.url}/popup` })
    await job.call('click', { target: 'e1' })
    expect(await job.text('open', { url: site.url })).toContain('# Opener')
  })

  test('that closes itself while it is clicked was clicked all the same', async () => {
    const { job } = await open('<h1>Opener</h1><a href="/popup" target=_blank>Open</a>', {
      '/popup': '<h1>Popup</h1><button onmousedown="window.close()">Close</button>',
    })
    await job.text('click', { target: 'e1' })
    const closed = await job.text('click', { target: 'e1' })
    expect(closed).toContain('A tab was closed by its page.')
    expect(closed).toContain('# Opener')
  })

  test('is refused past ten', async () => {
    const { job, site } = await open(
      `<h1>All of them</h1><button onclick="window.open('/')">One more</button>
       <script>for (let n = 0; n < 30; n += 1) window.open('/unasked')</script>`,
    )
    expect(site.asked).not.toContain('/unasked')
    for (let round = 1; round <= 9; round += 1) {
      const text = await job.text('click', { target: 'e1' })
      expect(text).toContain('A new tab opened')
      expect(text).toContain(`# All of them`)
    }
    const text = await job.text('click', { target: 'e1' })
    expect(text).toContain('there may be 10: it was closed at once')
    expect(text).not.toContain('A new tab opened')
  })
})
