import { type CommandSurroundings, spawnHeld } from './spawnHeld.ts'
import type { JobProcess, SpawnOptions } from './task.ts'

/** Starts a process tree that the scope holds from before it exists until it was ended. */
export async function startProcess(
  command: string | readonly [string, ...string[]],
  options: SpawnOptions,
  surroundings: Omit<CommandSurroundings, 'emit'>,
): Promise<JobProcess> {
  const { scope, limits } = surroundings
  const { tree, letGo } = await spawnHeld(command, { ...options, hasStdin: options.stdin === true }, surroundings)
  // It may exit without reading what it is sent: its status tells the rest.
  tree.stdin?.on('error', () => undefined)
  const end = async (): ReturnType<JobProcess['end']> => {
    const { killGraceMs, settleMs } = limits
    const report = await tree.end({ graceMs: killGraceMs, deadlineMs: settleMs - killGraceMs })
    // What survived stays held, so that the job's receipt tells of it.
    if (report.survivors.length === 0 && !scope.isStopRequested) letGo()
    return { processes: report.processes, survivors: report.survivors }
  }
  if (options.onStop === 'end') {
    if (scope.isStopRequested && !scope.isShielded) void end()
    else {
      const unlisten = scope.onRequest((kind) => kind === 'stop' && void end())
      void tree.exited.then(unlisten)
    }
  }
  const { pid, stdin, stdout, stderr, exited } = tree
  return { pid, stdin, stdout, stderr, exited, end }
}
