import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'

/** As run-api.sh sets it, for all programs alike. */
const ALLOCATOR = { MALLOC_MMAP_THRESHOLD_: '65536' }

/** What a program of a bench can be asked to do: one argument and one answer each, both plain data. */
type Calls = { readonly [name: string]: (input: never) => unknown }

interface Call {
  readonly number: number
  readonly name: string
  readonly input: unknown
}

interface Answer {
  readonly number: number
  readonly value?: unknown
  readonly error?: string
}

/**
 * A process of its own with one part of a bench in it, so that what is measured does not share a loop, a heap or a processor's
 * time with who measures. Both ends are ours: what crosses has the types of `C`, unchecked.
 */
export class Program<C extends Calls> implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  #calls = 0

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  /** `name` is a file of `bench/programs`. `nodeArgs` go to its Node. */
  static start<C extends Calls>(name: string, nodeArgs: readonly string[] = []): Program<C> {
    const child = fork(new URL(`./programs/${name}.ts`, import.meta.url), {
      execArgv: [...nodeArgs],
      env: { ...ALLOCATOR, ...process.env },
      serialization: 'advanced',
    })
    const program = new Program<C>(child)
    child.on('message', (message) => program.#settle(message as Answer))
    child.once('exit', (code, signal) => program.#failAll(new Error(`${name} ended with ${code ?? signal}`)))
    return program
  }

  async call<K extends keyof C & string>(name: K, input: Parameters<C[K]>[0]): Promise<Awaited<ReturnType<C[K]>>> {
    this.#calls += 1
    const answered = Promise.withResolvers<unknown>()
    this.#waiting.set(this.#calls, answered)
    this.#child.send({ number: this.#calls, name, input } satisfies Call)
    return (await answered.promise) as Awaited<ReturnType<C[K]>>
  }

  /** The program ends itself when its channel closes, and gives back what it holds. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exited = once(this.#child, 'exit')
    if (this.#child.connected) this.#child.disconnect()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_DEADLINE_MS)
    await exited
    clearTimeout(timer)
  }

  #settle({ number, value, error }: Answer): void {
    const waiting = this.#waiting.get(number)
    this.#waiting.delete(number)
    if (error === undefined) waiting?.resolve(value)
    else waiting?.reject(new Error(error))
  }

  #failAll(error: Error): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error)
    this.#waiting.clear()
  }
}

const END_DEADLINE_MS = 20_000

/** The other end: answers calls until the channel closes, then lets `close` give back what the program holds, and exits. */
export function answerCalls(calls: Calls, close: () => Promise<void>): void {
  process.on('message', (message) => void answer(calls, message as Call))
  process.once('disconnect', () => {
    close().then(
      () => process.exit(0),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
        process.exit(1)
      },
    )
  })
}

async function answer(calls: Calls, { number, name, input }: Call): Promise<void> {
  try {
    const call = calls[name]
    if (call === undefined) throw new Error(`there is no call ${name}`)
    process.send?.({ number, value: await call(input as never) } satisfies Answer)
  } catch (error) {
    process.send?.({ number, error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  }
}
