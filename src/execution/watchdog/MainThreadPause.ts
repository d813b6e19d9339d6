import type { Debugger, Runtime, Session } from 'node:inspector'
import type { Frame } from './culprit.ts'
import { CURRENT_EXECUTION, type CurrentExecution } from './currentExecution.ts'

/** What the main thread was doing when it was paused. */
export interface Glimpse {
  /** The innermost first. */
  readonly frames: readonly Frame[]
  /** Whose code it was; undefined where it is nobody's, or could not be asked. */
  readonly execution: CurrentExecution | undefined
}

export interface MainThreadPauseOptions {
  /** Called once at most, when the thread goes on again. */
  readonly onGlimpse: (glimpse: Glimpse) => void
  /** Asked while the thread is paused: `false` where it has turned to other work meanwhile, which is not to be blamed. */
  readonly isStillOn: () => boolean
}

/** What is kept of a stack: past it, it is recursion. */
const MAX_FRAMES = 30

/**
 * Pauses the main thread, looks at its stack, and lets it go on: 20 to 50 ms, most of them for `Debugger.enable`, which tells of
 * every script. A loop, a regular expression and `Atomics.wait` are paused at once; other native code (`execSync`, a big
 * `JSON.parse`) when it returns. Ending what blocks this way (`Runtime.terminateExecution`) is no choice: it crashes the process.
 */
export class MainThreadPause {
  readonly #session: Session
  readonly #options: MainThreadPauseOptions
  readonly #urls = new Map<string, string>()
  #isOpen = false

  constructor(session: Session, options: MainThreadPauseOptions) {
    this.#session = session
    this.#options = options
  }

  /** Asks for the pause. @throws where this Node lets nobody inspect it. */
  open(): void {
    const session = this.#session
    session.connectToMainThread()
    this.#isOpen = true
    session.on('Debugger.scriptParsed', ({ params }) => this.#urls.set(params.scriptId, params.url))
    session.on('Debugger.paused', ({ params }) => this.#look(params.callFrames))
    session.post('Debugger.enable')
    session.post('Debugger.pause')
  }

  /** Withdraws what was asked. If the main thread is paused, it goes on. */
  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#session.post('Debugger.disable')
    this.#session.disconnect()
  }

  #look(callFrames: readonly Debugger.CallFrame[]): void {
    const isStillOn = this.#options.isStillOn()
    // Sent before anything else, and without waiting for an answer: nothing that goes wrong here may keep the thread paused.
    const question = { expression: CURRENT_EXECUTION, returnByValue: true, silent: true }
    this.#session.post('Runtime.evaluate', question, (_error, answer?: Runtime.EvaluateReturnType) => {
      if (!isStillOn) return
      const frames = callFrames.slice(0, MAX_FRAMES).map((frame) => this.#frameOf(frame))
      this.#options.onGlimpse({ frames, execution: executionOf(answer) })
    })
    this.#session.post('Debugger.resume', () => this.close())
  }

  #frameOf({ functionName, location }: Debugger.CallFrame): Frame {
    return {
      functionName,
      url: this.#urls.get(location.scriptId) ?? '',
      line: location.lineNumber + 1,
      column: (location.columnNumber ?? 0) + 1,
    }
  }
}

function executionOf(answer: Runtime.EvaluateReturnType | undefined): CurrentExecution | undefined {
  return answer?.result.type === 'string' ? JSON.parse(answer.result.value) : undefined
}
