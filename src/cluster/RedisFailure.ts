import { StoreError } from '../store/JobStore.ts'

/**
 * What became of a command that failed. `unsent`: Redis never got it. `refused`: Redis answered that it did nothing. `unknown`:
 * it was sent, and no answer came.
 */
export type Fate = 'unsent' | 'refused' | 'unknown'

/** A command that failed. */
export class RedisFailure extends StoreError {
  readonly fate: Fate
  /** How Redis' own message begins, in capitals; empty where it was not Redis that refused. */
  readonly code: string

  constructor(fate: Fate, code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.fate = fate
    this.code = code
  }
}

/** Errors of Redis that get a sentence of their own, by how they begin. */
const SENTENCES: Readonly<Record<string, string>> = {
  OOM: 'has used all the memory that it may (maxmemory)',
  MISCONF: 'does not take writes: it cannot save to its disk',
  READONLY: 'does not take writes: it is a replica',
  NOREPLICAS: 'does not take writes: too few replicas follow it',
  LOADING: 'is still loading its data',
  BUSY: 'is busy with a script',
  NOAUTH: 'wants a password',
  WRONGPASS: 'does not take the password',
  NOPERM: 'does not permit this user what is needed',
}

/** `commandName`: what was called. `lastTrouble`: what was last heard of the connection. */
export function failureOf(error: unknown, address: string, commandName: string, lastTrouble: string): RedisFailure {
  const message = error instanceof Error ? error.message : String(error)
  if (isAnswerTo(error, commandName)) {
    const code = /^[A-Z]+(?= )/.exec(message)?.[0] ?? ''
    const sentence = SENTENCES[code] ?? 'failed'
    // Without its cause, which holds what was to be written, and that may be a secret.
    return new RedisFailure('refused', code, `the Redis at ${address} ${sentence} (Redis: ${message})`)
  }
  if (message.startsWith("Stream isn't writeable")) return unreachableFailure(address, lastTrouble)
  return new RedisFailure('unknown', '', `the Redis at ${address} did not answer (${lastTrouble || message})`)
}

export function unreachableFailure(address: string, lastTrouble: string): RedisFailure {
  return new RedisFailure('unsent', '', `the Redis at ${address} cannot be reached (${lastTrouble || 'not connected'})`)
}

/** Commands that wait are failed with the answer to another one too, as where a new connection is refused its password. */
function isAnswerTo(error: unknown, commandName: string): boolean {
  if (!(error instanceof Error) || error.name !== 'ReplyError') return false
  const command: unknown = 'command' in error ? error.command : undefined
  if (typeof command !== 'object' || command === null || !('name' in command)) return false
  return commonName(String(command.name)) === commonName(commandName)
}

/** A script that Redis has forgotten is sent again in full, by ioredis itself where it is one of BullMQ's. */
function commonName(commandName: string): string {
  const name = commandName.toLowerCase()
  return name === 'evalsha' ? 'eval' : name
}
