import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import type { ContainedProcess } from '../resources/processes/Containment.ts'
import { chunksIn, textIn } from './readPipe.ts'
import { type CommandSurroundings, spawnHeld } from './spawnHeld.ts'
import type { ExecOptions, ExecResult } from './task.ts'

const DEFAULT_COLLECT_BYTES = 1024 * 1024

/**
 * Runs one command in the job's containment and settles when it has exited, its output was read, and what it left behind was
 * ended. The scope holds it from before it exists: whatever ends the job ends the whole tree, also while it is being started.
 */
export async function runCommand(
  command: string | readonly [string, ...string[]],
  options: ExecOptions,
  surroundings: CommandSurroundings,
): Promise<ExecResult> {
  const { scope, limits } = surroundings
  const { tree, letGo } = await spawnHeld(command, { ...options, hasStdin: options.stdin !== undefined }, surroundings)
  const unlisten =
    options.onStop === 'terminate' ? scope.onRequest((kind) => kind === 'stop' && tree.terminate()) : undefined
  // A stop that came while the process was being started was not heard by the listener.
  if (options.onStop === 'terminate' && scope.isStopRequested && !scope.isShielded) tree.terminate()
  feed(tree, options.stdin)
  const read = outputReader(options, surroundings.emit)
  const stdout = read(tree.stdout, 'stdout')
  const stderr = read(tree.stderr, 'stderr')
  try {
    const status = await tree.exited
    if (options.background !== 'keep') {
      const deadlineMs = limits.settleMs - limits.killGraceMs
      const report = await tree.end({ graceMs: limits.killGraceMs, deadlineMs })
      // With nothing left there is nothing to hold. After a stop, and where something survived, the tree stays held, so that
      // the job's receipt tells of it: releasing it gives this same report.
      if (report.survivors.length === 0 && !scope.isStopRequested) letGo()
      await Promise.all([stdout.done, stderr.done])
    }
    return {
      exitCode: status.exitCode,
      signal: status.signal,
      stdout: stdout.text(),
      stderr: stderr.text(),
      truncated: stdout.isTruncated() || stderr.isTruncated(),
    }
  } finally {
    unlisten?.()
  }
}

function feed(tree: ContainedProcess, stdin: string | undefined): void {
  if (tree.stdin === null || stdin === undefined) return
  // A process may exit without reading all of it (EPIPE): that is its right, and its status tells the rest.
  tree.stdin.on('error', () => undefined)
  tree.stdin.end(stdin)
}

interface Output {
  /** Settles when the pipe is closed and all that came out of it is in the log. */
  readonly done: Promise<void>
  text(): string
  isTruncated(): boolean
}

type OutputReader = (pipe: Readable, channel: 'stdout' | 'stderr') => Output

function outputReader(options: ExecOptions, emit: CommandSurroundings['emit']): OutputReader {
  if (options.output === 'collect') {
    return (pipe) => collect(pipe, options.maxCollectBytes ?? DEFAULT_COLLECT_BYTES)
  }
  return (pipe, channel) => {
    const done = stream(pipe, channel, emit)
    // It may fail long before it is awaited, or where nobody awaits it: a rejection that nobody handles ends the server.
    done.catch(() => undefined)
    return { done, text: () => '', isTruncated: () => false }
  }
}

/** The pipe is paused while the log has no room: the process then waits in its own write. */
export async function stream(
  pipe: Readable,
  channel: 'stdout' | 'stderr',
  emit: CommandSurroundings['emit'],
): Promise<void> {
  for await (const text of textIn(pipe)) await emit({ type: 'output', channel, text })
}

function collect(pipe: Readable, maxBytes: number): Output {
  const chunks: Buffer[] = []
  let bytes = 0
  let isTruncated = false
  const done = (async () => {
    for await (const chunk of chunksIn(pipe)) {
      const room = maxBytes - bytes
      if (chunk.length > room) isTruncated = true
      const kept = chunk.length > room ? chunk.subarray(0, Math.max(0, room)) : chunk
      chunks.push(kept)
      bytes += kept.length
    }
  })()
  done.catch(() => undefined)
  // The decoder leaves out a character of which the cut took the rest.
  const text = (): string => {
    const whole = Buffer.concat(chunks)
    return isTruncated ? new StringDecoder('utf8').write(whole) : whole.toString('utf8')
  }
  return { done, text, isTruncated: () => isTruncated }
}
