import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { FakeServer } from './FakeServer.ts'
import { CLIENT } from './spawnClient.ts'

interface Options {
  readonly columns: number
  readonly rows: number
}

/** tmux with nothing around the client, whose last screen stays. */
const SETTINGS = `set -g status off
set -g remain-on-exit on
set -g remain-on-exit-format ''
set -g default-terminal tmux-256color
`

/** The client in a terminal that is emulated, so that what a user sees can be read: what was moved over is gone. */
export class TmuxTerminal {
  readonly #folder = mkdtempSync(join(tmpdir(), 'tether-tmux-'))
  readonly #codeFile = join(this.#folder, 'code')

  open(server: FakeServer, args: readonly string[], { columns, rows }: Options): void {
    const settings = join(this.#folder, 'tmux.conf')
    writeFileSync(settings, SETTINGS)
    const size = ['-x', String(columns), '-y', String(rows)]
    const env = ['-e', `TETHER_URL=${server.url}`, '-e', `NODE_COMPILE_CACHE=${process.env['NODE_COMPILE_CACHE']}`]
    // tmux loses a status now and then.
    const shell = ['sh', '-c', `trap : INT; "$@"; echo $? >'${this.#codeFile}'`, 'sh']
    this.#tmux('-f', settings, 'new-session', '-d', ...size, ...env, ...shell, process.execPath, CLIENT, ...args)
  }

  close(): void {
    try {
      this.#tmux('kill-server')
    } finally {
      rmSync(this.#folder, { recursive: true, force: true })
    }
  }

  /** The rows of the screen, and what has left it at the top, without what is empty at the end. */
  shown(): string {
    return this.#tmux('capture-pane', '-p', '-S', '-').trimEnd()
  }

  /** The same with its colours. */
  coloured(): string {
    return this.#tmux('capture-pane', '-p', '-e', '-S', '-').trimEnd()
  }

  press(key: string): void {
    this.#tmux('send-keys', key)
  }

  /** Another program writes to the terminal. */
  write(text: string): void {
    appendFileSync(this.#value('pane_tty'), text)
  }

  /** The client's own process. */
  pid(): number {
    const shell = this.#value('pane_pid')
    return Number(readFileSync(`/proc/${shell}/task/${shell}/children`, 'utf8'))
  }

  resize(columns: number, rows: number): void {
    this.#tmux('resize-window', '-x', String(columns), '-y', String(rows))
  }

  /** Undefined while the client runs. */
  exitCode(): number | undefined {
    const code = existsSync(this.#codeFile) ? readFileSync(this.#codeFile, 'utf8') : ''
    return code.endsWith('\n') ? Number(code) : undefined
  }

  #value(name: string): string {
    return this.#tmux('display-message', '-p', `#{${name}}`).trim()
  }

  #tmux(...args: readonly string[]): string {
    const env = { PATH: process.env['PATH'], HOME: this.#folder, TMUX_TMPDIR: this.#folder, LANG: 'C.UTF-8' }
    // A server of its own, in whose folder no other looks.
    return execFileSync('tmux', ['-u', ...args], { env, encoding: 'utf8' })
  }
}

/** The client in a terminal of its own, which is closed when the test ends. */
export function openTmux(server: FakeServer, args: readonly string[], options: Options): TmuxTerminal {
  const terminal = new TmuxTerminal()
  onTestFinished(() => terminal.close())
  terminal.open(server, args, options)
  return terminal
}
