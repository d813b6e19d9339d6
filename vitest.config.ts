import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    environment: 'node',
    // Of the programs that tests start: where Node has compiled them before, a server starts in 0.35 s instead of 0.54, and a client in 0.11 instead of 0.3.
    env: { NODE_COMPILE_CACHE: join(import.meta.dirname, 'node_modules', '.cache', 'tether') },
    reporters: ['default', './test/ClosingLine.ts'],
    include: ['test/**/*.test.ts'],
    // A test that leans on another one's leftovers fails here first.
    sequence: { shuffle: { files: true, tests: true } },
    // A test that passes at the second try found a race: it shall be seen.
    retry: 0,
    // One process a file: tests start servers and children, and a leak of one file must not reach the next.
    pool: 'forks',
    isolate: true,
    // Much of the time of tests is waited for: leases, graces, processes. More workers would only measure each other.
    maxWorkers: 3,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    teardownTimeout: 10_000,
  },
})
