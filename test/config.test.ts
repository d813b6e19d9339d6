import { resolve } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Config, ConfigError, readConfig } from '../src/config.ts'

const TOKEN = 'a-token-of-24-characters'

/** What `readConfig` refuses an environment with. */
function refusal(env: Record<string, string>): string {
  try {
    readConfig(env)
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError)
    return error instanceof ConfigError ? error.message : ''
  }
  throw new Error(`nothing was refused in ${JSON.stringify(env)}`)
}

describe('with nothing set', () => {
  test('every setting has its documented default', () => {
    expect(readConfig({})).toEqual({
      host: '127.0.0.1',
      isLoopback: true,
      port: 3000,
      apiToken: undefined,
      allowedHosts: [],
      allowedOrigins: [],
      trustProxy: false,
      maxStreamsPerClient: 2000,
      rateLimitPerMinute: 0,
      heartbeatMs: 15_000,
      maxBufferedBytes: 1_048_576,
      stallMs: 60_000,
      dataDir: resolve('data'),
      redisUrl: undefined,
      redisPrefix: 'tether:',
      leaseMs: 8000,
      cancelPollMs: 250,
      durability: 'process',
      concurrency: 64,
      maxQueued: 10_000,
      maxLogBytes: 268_435_456,
      retainJobsMs: 604_800_000,
      tombstoneMs: 60_000,
      maxTombstones: 10_000,
      maxRunMs: 3_600_000,
      settleMs: 2000,
      killGraceMs: 500,
      maxAbandoned: 16,
      drainMs: 0,
      containment: 'auto',
      tasksDir: undefined,
      replicaId: 'tether',
      logLevel: 'info',
      models: {
        model: undefined,
        openaiBaseUrl: undefined,
        openaiApiKey: undefined,
        anthropicBaseUrl: undefined,
        anthropicApiKey: undefined,
      },
    } satisfies Config)
  })

  test('an empty value counts as an unset one', () => {
    const keys = ['HOST', 'PORT', 'DATA_DIR', 'SETTLE_MS', 'DURABILITY', 'API_TOKEN', 'ALLOWED_HOSTS', 'TRUST_PROXY']
    expect(readConfig(Object.fromEntries([...keys, 'REDIS_URL'].map((key) => [key, ''])))).toEqual(readConfig({}))
  })

  test('nothing of the result can be changed', () => {
    const config = readConfig({ ALLOWED_HOSTS: 'a.example', ALLOWED_ORIGINS: 'https://a.example' })
    for (const value of [config, config.allowedHosts, config.allowedOrigins, readConfig({}).allowedHosts]) {
      expect(Object.isFrozen(value)).toBe(true)
    }
  })
})

describe('whole numbers', () => {
  const NUMBERS = [
    ['PORT', 'port', 0, 65_535],
    ['CONCURRENCY', 'concurrency', 1, 100_000],
    ['MAX_QUEUED', 'maxQueued', 0, 10_000_000],
    ['HEARTBEAT_MS', 'heartbeatMs', 10, 3_600_000],
    ['SETTLE_MS', 'settleMs', 100, 60_000],
    ['KILL_GRACE_MS', 'killGraceMs', 0, 30_000],
    ['MAX_BUFFERED_BYTES', 'maxBufferedBytes', 1024, 1_073_741_824],
    ['STALL_MS', 'stallMs', 10, 2_147_483_647],
    ['MAX_LOG_BYTES', 'maxLogBytes', 1024, 1_099_511_627_776],
    ['TOMBSTONE_MS', 'tombstoneMs', 0, 2_147_483_647],
    ['MAX_TOMBSTONES', 'maxTombstones', 0, 10_000_000],
    ['MAX_RUN_MS', 'maxRunMs', 1, 2_147_483_647],
    ['MAX_ABANDONED', 'maxAbandoned', 0, 100_000],
    ['DRAIN_MS', 'drainMs', 0, 3_600_000],
    ['MAX_STREAMS_PER_CLIENT', 'maxStreamsPerClient', 1, 1_000_000],
    ['RATE_LIMIT_PER_MINUTE', 'rateLimitPerMinute', 0, 10_000_000],
  ] as const

  test.each(NUMBERS)('%s is taken from end to end of its range and refused outside', (key, name, min, max) => {
    for (const value of [min, max]) expect(readConfig({ [key]: String(value) })[name]).toBe(value)
    for (const value of [min - 1, max + 1]) {
      expect(refusal({ [key]: String(value) })).toBe(
        `${key} must be a whole number from ${min} to ${max}, got "${value}"`,
      )
    }
  })

  test.each(['1e3', '0x10', ' 7', '7 ', '+7', '1.5', '1_000', 'ten', 'NaN', 'Infinity', '٣', '1'.repeat(400)])(
    'a number written as %j is refused',
    (text) => {
      expect(refusal({ TOMBSTONE_MS: text })).toMatch(
        /^TOMBSTONE_MS must be a whole number from 0 to 2147483647, got "/,
      )
    },
  )
})

describe('defaults that follow from other settings', () => {
  test('requests are limited where others can reach the server', () => {
    expect(readConfig({ HOST: '0.0.0.0', API_TOKEN: TOKEN }).rateLimitPerMinute).toBe(6000)
    expect(readConfig({ HOST: '::1', API_TOKEN: TOKEN }).rateLimitPerMinute).toBe(0)
    expect(readConfig({ HOST: '0.0.0.0', API_TOKEN: TOKEN, RATE_LIMIT_PER_MINUTE: '0' }).rateLimitPerMinute).toBe(0)
  })

  test('a quarter of the slots may be abandoned, and one at least', () => {
    expect(readConfig({ CONCURRENCY: '8' }).maxAbandoned).toBe(2)
    expect(readConfig({ CONCURRENCY: '1' }).maxAbandoned).toBe(1)
    expect(readConfig({ CONCURRENCY: '8', MAX_ABANDONED: '0' }).maxAbandoned).toBe(0)
  })

  test('running jobs get 25 s to finish at a shutdown where others can reach the server', () => {
    expect(readConfig({ HOST: '0.0.0.0', API_TOKEN: TOKEN }).drainMs).toBe(25_000)
    expect(readConfig({ HOST: '0.0.0.0', API_TOKEN: TOKEN, DRAIN_MS: '0' }).drainMs).toBe(0)
    expect(readConfig({ DRAIN_MS: '100' }).drainMs).toBe(100)
  })

  test('folders are taken from the working directory', () => {
    const config = readConfig({ DATA_DIR: 'somewhere/data', TASKS_DIR: '/srv/tasks' })
    expect(config.dataDir).toBe(resolve('somewhere/data'))
    expect(config.tasksDir).toBe('/srv/tasks')
  })
})

describe('who can reach the server', () => {
  test.each(['localhost', 'LocalHost', '127.0.0.1', '127.8.9.10', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1'])(
    'HOST %s is loopback and needs no token',
    (host) => {
      expect(readConfig({ HOST: host })).toMatchObject({ host, isLoopback: true })
    },
  )

  test.each(['0.0.0.0', '::', '10.0.0.1', '128.0.0.1', 'example.org', 'localhost.example.org', '::2'])(
    'HOST %s is not loopback: without a token the start is refused',
    (host) => {
      expect(refusal({ HOST: host })).toContain(`API_TOKEN must be set where others can reach HOST "${host}"`)
      expect(readConfig({ HOST: host, API_TOKEN: TOKEN })).toMatchObject({ host, isLoopback: false, apiToken: TOKEN })
    },
  )

  test.each(['127.0.0.1:3000', 'http://localhost', '[::1]', 'a b', '-x.', '.', '256.1.1.1'])(
    'HOST %j names no address',
    (host) => {
      expect(refusal({ HOST: host, API_TOKEN: TOKEN })).toBe(
        `HOST must be an IP address or a host name, without a port, got ${JSON.stringify(host)}`,
      )
    },
  )

  test.each([
    'short',
    'x'.repeat(15),
    'x'.repeat(513),
    'sixteen chars and spaces',
    'ümlaut-ümlaut-ümlaut',
    `${TOKEN}\n`,
  ])('a token such as %j is refused, and never shown', (token) => {
    const message = refusal({ API_TOKEN: token })
    expect(message).toMatch(/^API_TOKEN must be 16 to 512 ASCII letters.*, got \d+ characters, not shown here$/)
    expect(message).not.toContain(token.trim())
  })

  test('allowed hosts are kept as URLs write them', () => {
    expect(readConfig({ ALLOWED_HOSTS: ' Tether.Example , 10.0.0.7,fe80::0:1,[::1],, ' }).allowedHosts).toEqual([
      'tether.example',
      '10.0.0.7',
      '[fe80::1]',
      '[::1]',
    ])
  })

  test.each(['https://a.example', 'a.example:80', '*', '*.example', 'a.example/x', 'a b', 'ok.example, no:1', 'a..b'])(
    'ALLOWED_HOSTS %j is refused',
    (hosts) => {
      expect(refusal({ ALLOWED_HOSTS: hosts })).toBe(
        'ALLOWED_HOSTS must be host names or IP addresses, without scheme, port or wildcard, separated by commas, ' +
          `got ${JSON.stringify(hosts)}`,
      )
    },
  )

  test('allowed origins are kept as browsers send them', () => {
    const origins = 'HTTPS://App.Example:443, http://localhost:5173,http://[::1]:80'
    expect(readConfig({ ALLOWED_ORIGINS: origins }).allowedOrigins).toEqual([
      'https://app.example',
      'http://localhost:5173',
      'http://[::1]',
    ])
  })

  test.each([
    'app.example',
    'https://app.example/',
    'https://app.example/x',
    'https://user@app.example',
    'https://*.example',
    '*',
    'null',
    'file:///x',
    'ftp://a.example',
    'https://a.example?x',
    'https://a.example:99999',
    'https://a.example,b.example',
  ])('ALLOWED_ORIGINS %j is refused', (origins) => {
    expect(refusal({ ALLOWED_ORIGINS: origins })).toMatch(/^ALLOWED_ORIGINS must be origins such as .*, got "/)
  })

  test.each([
    ['off', false],
    ['on', true],
    ['loopback', 'loopback'],
    [' 10.0.0.1 , 192.168.0.0/16,fd00::/8', '10.0.0.1,192.168.0.0/16,fd00::/8'],
  ])('TRUST_PROXY %j is taken as %j', (text, expected) => {
    expect(readConfig({ TRUST_PROXY: text }).trustProxy).toBe(expected)
  })

  test.each(['true', '1', 'proxy.example', '10.0.0.0/0', '10.0.0.0/33', '10.0.0.0/8/8', '10.0.0.1;10.0.0.2', ','])(
    'TRUST_PROXY %j is refused',
    (text) => {
      expect(refusal({ TRUST_PROXY: text })).toMatch(/^TRUST_PROXY must be on, off, or IP addresses.*, got "/)
    },
  )
})

describe('words', () => {
  test.each([
    ['DURABILITY', 'durability', ['process', 'full']],
    ['CONTAINMENT', 'containment', ['auto', 'cgroup', 'pidns', 'group']],
    ['LOG_LEVEL', 'logLevel', ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']],
  ] as const)('%s is one of its words', (key, name, words) => {
    for (const word of words) expect(readConfig({ [key]: word })[name]).toBe(word)
    expect(refusal({ [key]: 'Some' })).toBe(`${key} must be one of ${words.join(', ')}, got "Some"`)
  })

  test('a replica id is a short word', () => {
    expect(readConfig({ REPLICA_ID: 'eu-1.a_b' }).replicaId).toBe('eu-1.a_b')
    expect(refusal({ REPLICA_ID: 'eu 1' })).toBe(
      'REPLICA_ID must be 1 to 64 characters of A-Z a-z 0-9 . _ -, got "eu 1"',
    )
  })
})

test('REDIS_PREFIX is a short word, with colons and braces', () => {
  expect(readConfig({ REDIS_PREFIX: '{a}:b:' }).redisPrefix).toBe('{a}:b:')
  expect(refusal({ REDIS_PREFIX: 'a b' })).toBe(
    'REDIS_PREFIX must be 1 to 64 characters of A-Z a-z 0-9 . _ : { } -, got "a b"',
  )
})

test('REDIS_URL is the address of a Redis, and what it holds is never shown', () => {
  expect(readConfig({ REDIS_URL: 'rediss://:hunter2@cache:6379/1' }).redisUrl).toBe('rediss://:hunter2@cache:6379/1')
  const message = refusal({ REDIS_URL: 'http://:hunter2@cache:6379' })
  expect(message).toMatch(/^REDIS_URL must be redis:.*, or rediss: for TLS, got 26 characters, not shown here$/)
})

test('whatever a value is, it is taken or refused with one line that begins with its key', () => {
  const keys = fc.constantFrom(
    'HOST',
    'PORT',
    'ALLOWED_HOSTS',
    'ALLOWED_ORIGINS',
    'TRUST_PROXY',
    'REPLICA_ID',
    'SETTLE_MS',
  )
  const values = fc.oneof(fc.string({ unit: 'binary' }), fc.webUrl(), fc.domain(), fc.ipV6(), fc.integer().map(String))
  fc.assert(
    fc.property(keys, values, (key, value) => {
      try {
        readConfig({ API_TOKEN: TOKEN, [key]: value })
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error
        expect(error.message).toMatch(new RegExp(`^${key} must be [^\\n\\r]+$`))
      }
    }),
  )
})
