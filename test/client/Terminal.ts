import { execFileSync, spawn } from 'node:child_process'
import { expect, onTestFinished } from 'vitest'
import { programEnvironment } from '../programEnvironment.ts'
import type { FakeServer } from './FakeServer.ts'
import { CLIENT } from './spawnClient.ts'

export const CTRL_C = '\x03'
/** Told by the shell that becomes the client. */
const PID = /^pid ([0-9]+)\r\n/

export interface Terminal {
  readonly shown: () => string
  readonly press: (keys: string) => void
  /** From now on nothing is taken from the terminal, as when the connection of a remote shell hangs. */
  readonly hold: () => void
  /** The client's own process. */
  readonly pid: () => number
  readonly exited: Promise<number | null>
}

interface TerminalOptions {
  /** Default: the terminal does not say. */
  readonly columns?: number
  /** As the shell takes it, such as `2>/dev/null`. */
  readonly redirect?: string
  readonly env?: Readonly<Record<string, string>>
}

/** The client under a pseudo-terminal of its own, made by script(1) of util-linux, with keys that arrive as keys do. */
export function openTerminal(server: FakeServer, args: string, options: TerminalOptions = {}): Terminal {
  assertScript()
  const { columns, redirect = '', env = {} } = options
  const size = columns === undefined ? '' : `stty cols ${columns} rows 24; `
  const command = `${size}echo "pid $$"; exec '${process.execPath}' '${CLIENT}' ${args} ${redirect}`
  const child = spawn('script', ['-q', '-e', '-c', command, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...programEnvironment, TERM: 'xterm', TETHER_URL: server.url, SHELL: '/bin/sh', ...env },
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let shown = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (shown += text))
  const exited = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  return {
    shown: () => shown.replace(PID, ''),
    press: (keys) => void child.stdin.write(keys),
    hold: () => void child.stdout.pause(),
    pid: () => Number(PID.exec(shown)?.[1]),
    exited,
  }
}

function assertScript(): void {
  try {
    expect(execFileSync('script', ['--version'], { encoding: 'utf8' })).toContain('util-linux')
  } catch (error) {
    throw new Error('these tests need script(1) of util-linux for a pseudo-terminal (Debian: bsdutils)', {
      cause: error,
    })
  }
}
