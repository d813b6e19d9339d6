import { expect, test } from 'vitest'
import { parseInvocation } from '../../src/client/cli/invocation.ts'
import { UsageError } from '../../src/client/cli/UsageError.ts'

test.each([
  [[], 'there is nothing to do'],
  [['--nonsense'], "Unknown option '--nonsense'"],
  [['two', 'words'], 'put it in quotes'],
  [['   '], 'the prompt must not be empty'],
  [['--task', 'ticks', 'prompt'], '--task takes no prompt'],
  [['--task', 'ticks', 'list'], '--task takes neither'],
  [['--task', 'ticks', '--input', '{count:1}'], '--input must be JSON'],
  [['--input', '{}', 'hello'], '--input belongs to --task'],
  [['--json', '--quiet', 'hello'], 'exclude each other'],
  [['--on-interrupt', 'explode', 'hello'], '--on-interrupt must be cancel, stop or detach, got "explode"'],
  [['--hold', 'show', 'job_12345'], '--hold belongs to attach'],
  [['show'], 'show takes the ID of one job'],
  [['cancel', '../jobs'], 'a job id must be 8 to 64 characters'],
  [['list', 'all'], 'list takes nothing more'],
  [['--token', 'a\nb', 'list'], 'the token must be visible ASCII'],
])('%j is wrong usage', (args, message) => {
  const parse = (): unknown => parseInvocation(args, {})
  expect(parse).toThrow(UsageError)
  expect(parse).toThrow(message)
})

test('an option comes before the environment, and an empty variable is none', () => {
  const env = { TETHER_URL: 'http://from-env', TETHER_TOKEN: '' }
  expect(parseInvocation(['list'], env)).toMatchObject({ server: 'http://from-env', token: undefined })
  expect(parseInvocation(['list', '--server', 'http://x', '--token', 't'], env)).toMatchObject({
    server: 'http://x',
    token: 't',
  })
})

test('a token that cannot be sent is not shown', () => {
  expect(() => parseInvocation(['list', '--token', 'secret words'], {})).not.toThrow('secret')
})
