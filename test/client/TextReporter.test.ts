import { expect, test } from 'vitest'
import { type ChildReader, ChildStreams } from '../../src/client/cli/ChildStreams.ts'
import { Screen } from '../../src/client/cli/Screen.ts'
import type { Sink } from '../../src/client/cli/Sink.ts'
import { TextReporter } from '../../src/client/cli/TextReporter.ts'
import { TetherClient } from '../../src/client/TetherClient.ts'
import type { JobEvent } from '../../src/job/event.ts'

/** Gives the reader of a child to the test, and reads nothing. */
class HeldStreams extends ChildStreams {
  readonly readers: ChildReader[] = []

  override follow(_childId: string, open: () => ChildReader): void {
    this.readers.push(open())
  }
}

function sinkOf(write: (text: string) => void): Sink {
  const size = { columns: 80, rows: 24 }
  const broken = new Promise<Error>(() => {})
  return {
    isTerminal: false,
    place: undefined,
    size,
    broken,
    write: async (text) => write(text),
    flush: async () => {},
  }
}

const HEAD = { jobId: 'job_1', seq: 1, at: '2026-01-02T03:04:05.678Z' }
const CHILD_STARTED: JobEvent = { ...HEAD, type: 'child.started', childId: 'job_2', task: 'agent' }
const TOOL_STARTED: JobEvent = {
  ...HEAD,
  type: 'tool.started',
  tool: 'terminal',
  callId: '1',
  input: { command: 'make' },
}
const TOOL_FINISHED: JobEvent = { ...HEAD, type: 'tool.finished', tool: 'terminal', callId: '1', ok: true, summary: '' }

test.each(['finish', 'leave'] as const)('of a child that says more after %s nothing is shown', async (how) => {
  let shown = ''
  await using client = new TetherClient()
  const { signal } = new AbortController()
  const streams = new HeldStreams({ client, signal, noMore: signal, onDefect: () => {} })
  const screen = new Screen(
    sinkOf(() => {}),
    sinkOf((text) => (shown += text)),
  )
  const reporter = new TextReporter(screen, streams, { isVerbose: false, showsReasoning: false })
  await reporter.show(CHILD_STARTED)
  const [child] = streams.readers
  await child?.show(TOOL_STARTED)
  if (how === 'finish') await reporter.finish({ status: 'cancelled', receipt: undefined, failure: undefined })
  else reporter.leave()
  const settled = shown
  expect(settled).toMatch(/^ {2}\[1\] … terminal {2}make {2}(cancelled|not finished) after \d+ ms\n$/)
  await child?.show(TOOL_FINISHED)
  child?.onUnread(new Error('cut'))
  reporter.leave()
  expect(shown).toBe(settled)
})
