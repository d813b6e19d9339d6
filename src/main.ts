#!/usr/bin/env node
import { flushCompileCache } from 'node:module'
import { type DestinationStream, destination, type Logger, pino } from 'pino'
import { systemClock } from './clock.ts'
import { ConfigError, readConfig } from './config.ts'
import { isForCommands } from './execution/commandEnvironment.ts'
import { currentExecution } from './execution/watchdog/currentExecution.ts'
import { openSharedOf } from './openShared.ts'
import { hideEnvironment } from './resources/processes/hideEnvironment.ts'
import { MARKER } from './resources/processes/marker.ts'
import { openTether, type Tether } from './tether.ts'

/** Signals this close to each other come from one shutdown of a process group, and count once. */
const ONE_SHUTDOWN_MS = 500

/** The logger's lines are gathered and written a few times a second: thousands of jobs that end at once log thousands of lines. */
const LOG_FLUSH_MS = 200
const LOG_BUFFER_BYTES = 8 * 1024

async function main(): Promise<void> {
  const config = readConfig(process.env)
  const isHidden = hideEnvironment((name) => isForCommands(name) || name === MARKER)
  const output = destination({ fd: 1, sync: false, minLength: LOG_BUFFER_BYTES, periodicFlush: LOG_FLUSH_MS })
  const logger = pino({ level: config.logLevel, base: null }, output)
  if (!isHidden) logger.warn('other processes of this user can read the environment of this one in /proc')
  const watchdog = { logger, reportFd: 1 }
  const openShared = openSharedOf(config, logger, systemClock)
  const tether = await openTether({
    config,
    logger,
    serverEnv: process.env,
    cwd: process.cwd(),
    watchdog,
    ...(openShared === undefined ? {} : { openShared }),
  })
  // Before the line that tells others that they may send them.
  endOnSignals(tether, config.drainMs, output)
  process.on('uncaughtException', (error) => onStrayError(error, logger, output))
  const { level, complete } = tether.containment
  say(`Tether listens on ${tether.url} (containment ${level}, ${complete ? 'complete' : 'not complete'})`)
  // For the next start; Node would write it at the exit, which SIGKILL leaves out.
  flushCompileCache()
}

/**
 * The first signal lets running jobs finish for `drainMs`; a later one, or a terminal's SIGINT, ends them now, each with its
 * terminal event; one after that, or where there was nothing to wait for, ends the process at once.
 */
function endOnSignals(tether: Tether, drainMs: number, output: ReturnType<typeof destination>): void {
  const hurry = new AbortController()
  let lastAtMs: number | undefined
  const onSignal = (signal: NodeJS.Signals): void => {
    const nowMs = performance.now()
    const isFirst = lastAtMs === undefined
    const isLater = lastAtMs !== undefined && nowMs - lastAtMs >= ONE_SHUTDOWN_MS
    const isHurried = hurry.signal.aborted || drainMs === 0
    if (isFirst || isLater) lastAtMs = nowMs
    if (signal === 'SIGINT' || isLater) hurry.abort()
    if (isLater && isHurried) exitNow(1, output)
    if (!isFirst) return
    tether.stop(hurry.signal).then(
      () => exitNow(0, output),
      (error: unknown) => die(error, output),
    )
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
}

/**
 * An error that nobody caught. One that came out of a task's own code, such as a timer or a listener that throws, is that task's
 * affair: it is logged with its job, and the other jobs go on. Any other is a defect of the server, which cannot go on from there.
 */
function onStrayError(error: unknown, logger: Logger, output: ReturnType<typeof destination>): void {
  const execution = currentExecution()
  if (execution === undefined) die(error, output)
  logger.error({ ...execution, err: error }, 'a task left an error that nobody caught')
}

function die(error: unknown, output: ReturnType<typeof destination>): never {
  complain(error)
  return exitNow(1, output)
}

function exitNow(code: number, output: DestinationStream & { flushSync(): void }): never {
  try {
    output.flushSync()
  } catch {
    // Standard output may be gone; the exit code still counts.
  }
  process.exit(code)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** What an operator can mend is told in one line; anything else is a defect, with its stack. */
function complain(error: unknown): void {
  const text = error instanceof ConfigError ? error.message : error instanceof Error ? error.stack : String(error)
  process.stderr.write(`tether: ${text}\n`)
}

main().catch((error: unknown) => {
  if (error instanceof Error && !(error instanceof TypeError)) process.stderr.write(`tether: ${error.message}\n`)
  else complain(error)
  process.exit(1)
})
