import type { Duplex, Readable, Writable } from 'node:stream'
import type { ContainmentLevel, Survivor } from '../../job/receipt.ts'

/** What to start. `argv[0]` is looked up in `env.PATH`; nothing passes through a shell unless `argv` says so. */
export interface SpawnRequest {
  readonly argv: readonly [string, ...string[]]
  readonly cwd: string
  /** The whole environment of the process: nothing is inherited from the server. */
  readonly env: Readonly<Record<string, string>>
  /** Whether the process gets a pipe as its standard input; otherwise it reads end of file. */
  readonly stdin: boolean
  /** Whether the process gets one end of a two-way channel to the server as its file descriptor 3. */
  readonly channel?: boolean
  /** Who it belongs to: the text by which a sweep recognises the job's processes (only `A-Z a-z 0-9 _ : -`). */
  readonly owner: string
}

/**
 * How a leader ended: `exitCode` where it exited by itself, `signal` where a signal was seen to end it. In a pid namespace it is
 * init that sees it, and a signal shows as a shell shows it: as the exit code 128 + its number.
 */
export interface ExitStatus {
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
}

/** What ending a process tree came to. Instants are `performance.now()` milliseconds; null where the step was not taken. */
export interface EndReport {
  /** Processes of the tree seen alive and then gone, the leader included. */
  readonly processes: number
  readonly survivors: readonly Survivor[]
  readonly killedAtMs: number | null
  readonly verifiedAtMs: number
}

/**
 * A process tree that was started inside a containment. Whoever started it calls `end` in every case, also when the leader has
 * exited by itself: that takes the rest of the tree and gives back what holds it. Where a process left behind has the pipes,
 * they come to their end only then, so wait for `exited`, not for the pipes.
 */
export interface ContainedProcess {
  /** The leader's, in the server's own pid namespace. */
  readonly pid: number
  readonly stdin: Writable | null
  /** To be read from the start (`data`, `for await`, `pipe`; `resume` where nobody wants it): `end` destroys a pipe that nobody reads. */
  readonly stdout: Readable
  readonly stderr: Readable
  /** The server's end of the channel that was asked for; `end` treats it as it does `stdout`. */
  readonly channel: Duplex | null
  /** Settles when the leader has exited; it may leave others of its tree behind. Never rejects. */
  readonly exited: Promise<ExitStatus>
  /** TERM and CONT to every process of the tree that can be found. Never throws. */
  terminate(): void
  /**
   * Ends the whole tree: TERM and CONT → `graceMs` (shorter where all of it is gone before) → kill → look for what is left → pipes
   * closed. `graceMs` 0 kills at once. Settles `deadlineMs` after the kill at the latest, with what it still sees as survivors.
   * Calling it again gives the same promise, and a later call with a shorter grace or deadline shortens the wait. Never rejects.
   *
   * A leader that had to be killed has no last words: its pipes are destroyed. Otherwise what it wrote still comes out, and `end`
   * waits for that as long as the pipes are being read and something comes; it does not wait for a reader that has paused, who
   * has to go on or to destroy the pipe.
   */
  end(options: { readonly graceMs: number; readonly deadlineMs: number }): Promise<EndReport>
}

/** One way to hold process trees, of which the best that the machine gives is chosen at the start. */
export interface Containment {
  readonly level: ContainmentLevel
  /** Whether no process can leave it by itself, so that its check is proof. Never a boundary against hostile code run as root. */
  readonly complete: boolean
  /**
   * Settles when the containment holds and the program is about to run. Not from a worker thread: a child dies with the thread
   * that started it.
   *
   * @throws {TaskFailure} `TETHER_SPAWN_FAILED` naming what was wrong; retryable where the machine was short of something.
   */
  spawn(request: SpawnRequest): Promise<ContainedProcess>
}
