import type { Json } from '../../src/job/json.ts'
import type { Random } from './random.ts'

/** What a stream asks the server to do. */
export interface Work {
  readonly name: string
  readonly task: 'ticks' | 'command'
  readonly input: { readonly [key: string]: Json }
  /** Its leader takes no notice of TERM, so a stop does not end it. */
  readonly isDeaf?: true
}

/** Work that ends by itself. */
export interface ShortWork extends Work {
  readonly outcome: 'succeeded' | 'failed'
  /** About how long it takes from its start. */
  readonly lastsMs: number
}

/**
 * Shell lines that make trees. `word` stands in the command line of every process of the tree, so that one whose environment was
 * emptied is still found; it is a number close to zero, which `sleep` adds up.
 */
const TREES: Readonly<Record<string, (word: string) => string>> = {
  sleep: (word) => `exec sleep 300 ${word}`,
  nested: (word) =>
    `sh -c 'sleep 300 ${word} & sleep 300 ${word} & wait; : ${word}' & ` +
    `sh -c 'sh -c "sleep 300 ${word} & wait; : ${word}" & wait; : ${word}' & wait; : ${word}`,
  'own session': (word) => `setsid sleep 300 ${word} & setsid sh -c 'sleep 300 ${word}; : ${word}' & sleep 300 ${word}`,
  daemon: (word) =>
    `(setsid sh -c 'sleep 300 ${word} & exec sleep 300 ${word}' >/dev/null 2>&1 &); sleep 300 ${word}; : ${word}`,
  talking: (word) => `while :; do echo 'said by ${word}'; sleep 0.1 ${word}; done`,
  flooding: (word) => `yes ${word} | head -c 400000; sleep 300 ${word}`,
}

/** TERM is ignored, which children inherit, or caught and forgotten. */
const DEAF_TREES: Readonly<Record<string, (word: string) => string>> = {
  'ignores TERM': (word) => `trap '' TERM; sleep 300 ${word} & while :; do sleep 0.2 ${word}; done`,
  'catches TERM': (word) => `trap ':' TERM; while :; do sleep 0.2 ${word}; done`,
}

/** Only a complete containment finds these: no group, no parent and no environment leads to them. */
const HIDDEN_TREES: Readonly<Record<string, (word: string) => string>> = {
  'empty environment': (word) =>
    `env -i setsid sh -c 'sleep 300 ${word} & exec sleep 300 ${word}' & sleep 300 ${word}; : ${word}`,
}

/** Processes cost a machine far more than ticks do. */
const SHARE_OF_COMMANDS = 0.4

/** Work that goes on until it is ended from outside. */
export function endlessWork(random: Random, word: string, options: { readonly isComplete: boolean }): Work {
  if (random.next() >= SHARE_OF_COMMANDS) {
    const intervalMs = random.pick([1, 5, 20, 100, 1000, 60_000])
    return {
      name: `ticks every ${intervalMs} ms`,
      task: 'ticks',
      input: { count: 1_000_000, intervalMs, bytes: random.pick([0, 100, 4000]) },
    }
  }
  const weights = {
    ...weighted(TREES, 3),
    ...weighted(DEAF_TREES, 2),
    ...(options.isComplete ? weighted(HIDDEN_TREES, 3) : {}),
  }
  const name = random.weighted(weights)
  const lineOf = TREES[name] ?? DEAF_TREES[name] ?? HIDDEN_TREES[name]
  if (lineOf === undefined) throw new Error(`there is no tree ${name}`)
  return {
    name,
    task: 'command',
    input: { command: lineOf(word) },
    ...(name in DEAF_TREES ? { isDeaf: true } : {}),
  }
}

/** Work that is soon over. Of commands, some leave a process behind, which must be gone all the same. */
export function shortWork(random: Random, word: string): ShortWork {
  if (random.next() >= SHARE_OF_COMMANDS) {
    const count = random.whole(2, 30)
    const intervalMs = random.pick([0, 2, 5, 10])
    return {
      name: 'few ticks',
      task: 'ticks',
      input: { count, intervalMs },
      outcome: 'succeeded',
      lastsMs: count * intervalMs,
    }
  }
  const lastsMs = random.pick([10, 50, 150])
  const code = random.pick([0, 0, 3])
  const leftBehind = random.pick(['', `sleep 300 ${word} & `, `setsid sleep 300 ${word} & `])
  return {
    name: 'short command',
    task: 'command',
    input: { command: `${leftBehind}sleep ${lastsMs / 1000} ${word}; echo 'done by ${word}'; exit ${code}` },
    outcome: code === 0 ? 'succeeded' : 'failed',
    lastsMs,
  }
}

function weighted(trees: Readonly<Record<string, unknown>>, weight: number): Record<string, number> {
  return Object.fromEntries(Object.keys(trees).map((name) => [name, weight]))
}
