import { extname } from 'node:path'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { ContainedProcess, Containment } from '../../resources/processes/Containment.ts'
import { readLines, writeLine } from './jsonLines.ts'
import type { ToChild } from './toChild.ts'

// The same extension as this file's: it is `.js` where the program was compiled.
const ENTRY = fileURLToPath(new URL(`./childMain${extname(import.meta.url)}`, import.meta.url))

export interface TaskProcessOptions {
  readonly containment: Containment
  /** The basic environment of commands: what an author's code may know of the server's. */
  readonly commandEnv: Readonly<Record<string, string>>
  readonly defaultCwd: string
  /** Where Node keeps what it compiled: a fifth of the processor time to start, where modules are TypeScript. */
  readonly compileCache: string
}

/** A Node process that calls one task's function: contained, and with a channel over which it is told which one. */
export class TaskProcess {
  readonly contained: ContainedProcess
  /** Settles when it has loaded all but the task's module; `false` where it ended before. Never rejects. */
  readonly isReady: Promise<boolean>
  /** What it says after that, parsed and no more; throws at what is no message. Read by one reader, to the end. */
  readonly messages: AsyncGenerator<unknown, void>
  readonly #channel: Duplex

  private constructor(contained: ContainedProcess, channel: Duplex) {
    this.contained = contained
    this.messages = readLines(channel)
    this.isReady = this.messages.next().then(
      ({ done }) => done !== true,
      () => false,
    )
    this.#channel = channel
  }

  /** Settles when the process exists; it loads what it needs meanwhile. @throws {TaskFailure} `TETHER_SPAWN_FAILED` */
  static async start({ containment, commandEnv, defaultCwd, compileCache }: TaskProcessOptions): Promise<TaskProcess> {
    const contained = await containment.spawn({
      argv: [process.execPath, ENTRY],
      cwd: defaultCwd,
      env: { ...commandEnv, NODE_COMPILE_CACHE: compileCache },
      stdin: false,
      channel: true,
      // It is started before it is known whose it will be.
      owner: 'isolated',
    })
    if (contained.channel === null) throw new Error('a process that was started with a channel has none')
    return new TaskProcess(contained, contained.channel)
  }

  send(message: ToChild): void {
    writeLine(this.#channel, message)
  }
}
