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
  [['--json', '--verbose', 'hello'], '--verbose belongs to text'],
  [['--quiet', '--verbose', 'hello'], '--verbose belongs to text'],
  [['--json', '--reasoning', 'hello'], '--reasoning belongs to text'],
  [['--children', 'hello'], '--children belongs to --json'],
  [['--quiet', '--children', 'hello'], '--children belongs to --json'],
  [['--verbose', 'list'], '--verbose belongs to a start or to attach ID'],
  [['--reasoning', 'show', 'job_12345'], '--reasoning belongs to a start or to attach ID'],
  [['--json', '--children', 'tasks'], '--children belongs to a start or to attach ID'],
  [['--on-interrupt', 'explode', 'hello'], '--on-interrupt must be cancel, stop or detach, got "explode"'],
  [['--grace-ms', '1.5', 'hello'], '--grace-ms must be a whole number from 0 to 3600000 (milliseconds), got "1.5"'],
  [['--grace-ms', '3600001', 'hello'], '--grace-ms must be a whole number from 0 to 3600000'],
  [['--grace-ms=', 'hello'], '--grace-ms must be a whole number from 0 to 3600000 (milliseconds), got ""'],
  [['--lease-ms=-1', 'hello'], '--lease-ms must be a whole number from 0 to 2147483647 (milliseconds), got "-1"'],
  [['--lease-ms', '2147483648', 'hello'], '--lease-ms must be a whole number from 0 to 2147483647'],
  [['--lease-ms', '5s', 'hello'], '--lease-ms must be a whole number'],
  [['--grace-ms', '5', 'attach', 'job_12345'], '--grace-ms belongs to a start, not to attach'],
  [['--lease-ms', '5', 'list'], '--lease-ms belongs to a start, not to list'],
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

test('the grace and the lease of a start are whole milliseconds, and left to the server where they are not given', () => {
  const startOf = (...args: string[]): unknown => parseInvocation(args, {}).command
  expect(startOf('--grace-ms', '3600000', '--lease-ms', '2147483647', 'hello')).toMatchObject({
    terms: { disconnectGraceMs: 3_600_000, leaseMs: 2_147_483_647 },
  })
  expect(startOf('--task', 'ticks', '--grace-ms', '0')).toMatchObject({ terms: { disconnectGraceMs: 0 } })
  expect(startOf('hello')).toHaveProperty('terms', {})
})

test('what is shown of a job, and how, is said by flags and by the terminal', () => {
  const parsed = (args: string[], env = {}): unknown => parseInvocation(args, env)
  expect(parsed(['--verbose', 'hello'])).toMatchObject({
    view: { kind: 'text', isVerbose: true, showsReasoning: false },
  })
  expect(parsed(['--reasoning', 'attach', 'job_12345'])).toMatchObject({ view: { showsReasoning: true } })
  expect(parsed(['--json', 'hello'])).toMatchObject({ view: { kind: 'json', withChildren: false } })
  expect(parsed(['--json', '--children', 'hello'])).toMatchObject({ view: { kind: 'json', withChildren: true } })
  expect(parsed(['hello'])).toMatchObject({ look: { isColoured: true, isLive: true } })
  expect(parsed(['hello'], { NO_COLOR: '1' })).toMatchObject({ look: { isColoured: false, isLive: true } })
  expect(parsed(['hello'], { TERM: 'dumb' })).toMatchObject({ look: { isColoured: false, isLive: false } })
})
