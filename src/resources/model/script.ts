import type { LanguageModelV4Prompt, LanguageModelV4ToolCall } from '@ai-sdk/provider'

/** What the scripted model answers: text, then calls of tools. Without calls it is its last word. */
export interface ScriptedTurn {
  readonly text: string
  readonly calls: readonly LanguageModelV4ToolCall[]
}

interface Step {
  readonly text: string
  readonly calls?: readonly { readonly tool: string; readonly input: object }[]
}

const README_PROMPT = 'Write a README for the app in the folder app.'

/** The answer to a conversation: which one depends on its last request and on how often it was answered. */
export function scriptedTurn(prompt: LanguageModelV4Prompt): ScriptedTurn {
  const request = lastRequest(prompt)
  const steps = request.text === README_PROMPT ? readmeSteps() : appSteps(request.text)
  const step = steps[Math.min(request.answers, steps.length - 1)] ?? { text: '' }
  return {
    text: step.text,
    calls: (step.calls ?? []).map(({ tool, input }, index) => ({
      type: 'tool-call',
      toolCallId: `call_${request.answers + 1}_${index + 1}`,
      toolName: tool,
      input: JSON.stringify(input),
    })),
  }
}

/** The text of the last user message, and how many answers there have been since. */
function lastRequest(prompt: LanguageModelV4Prompt): { readonly text: string; readonly answers: number } {
  const last = prompt.findLastIndex(({ role }) => role === 'user')
  const message = prompt[last]
  const parts = message?.role === 'user' ? message.content : []
  const text = parts.map((part) => (part.type === 'text' ? part.text : '')).join('')
  return { text, answers: prompt.slice(last + 1).filter(({ role }) => role === 'assistant').length }
}

function appSteps(request: string): readonly Step[] {
  return [
    {
      text:
        'This is the scripted model: it says and does the same for every prompt. The loop, the tools and their ends are ' +
        'the real ones.\n\nI will write a small web app with tests, run the tests, and let a sub-agent describe it.\n',
      calls: [
        { tool: 'write_file', input: { path: 'app/index.html', text: pageFor(request) } },
        { tool: 'write_file', input: { path: 'app/counter.mjs', text: COUNTER } },
        { tool: 'write_file', input: { path: 'app/counter.test.mjs', text: COUNTER_TEST } },
      ],
    },
    {
      text: 'The files are there. Now the tests.\n',
      calls: [{ tool: 'terminal', input: { command: 'node --test app/counter.test.mjs' } }],
    },
    {
      text: 'Now a sub-agent writes the README.\n',
      calls: [{ tool: 'sub_agent', input: { prompt: README_PROMPT } }],
    },
    { text: '', calls: [{ tool: 'list_files', input: { path: 'app' } }] },
    {
      text:
        'Done: app/index.html is a page with a counter, app/counter.mjs is what counts, app/counter.test.mjs tests it, and ' +
        'app/README.md says how to use it.\n',
    },
  ]
}

function readmeSteps(): readonly Step[] {
  return [
    {
      text: 'I look at the code first.\n',
      calls: [{ tool: 'read_file', input: { path: 'app/counter.mjs' } }],
    },
    {
      text: 'Now I write it down.\n',
      calls: [{ tool: 'write_file', input: { path: 'app/README.md', text: README } }],
    },
    { text: 'app/README.md says what the app is and how to test it.\n' },
  ]
}

function pageFor(request: string): string {
  const title = request.slice(0, 200).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Counter</title>
<h1>Counter</h1>
<p>Asked for: ${title}</p>
<p><output id="count">0</output> <button id="more">One more</button></p>
<script type="module">
import { createCounter } from './counter.mjs'
const counter = createCounter()
document.querySelector('#more').addEventListener('click', () => {
  document.querySelector('#count').value = counter.increment()
})
</script>
</html>
`
}

const COUNTER = `/** Counts up from \`start\`. */
export function createCounter(start = 0) {
  let count = start
  return {
    increment: () => (count += 1),
    get value() {
      return count
    },
  }
}
`

const COUNTER_TEST = `import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCounter } from './counter.mjs'

test('a counter begins at 0 and counts up', () => {
  const counter = createCounter()
  assert.equal(counter.value, 0)
  assert.equal(counter.increment(), 1)
  assert.equal(counter.value, 1)
})

test('a counter begins where it is told to', () => {
  assert.equal(createCounter(41).increment(), 42)
})
`

const README = `# Counter

A page with a counter. Serve this folder (for example with \`npx serve\`) and open it; run the tests with

    node --test counter.test.mjs
`
