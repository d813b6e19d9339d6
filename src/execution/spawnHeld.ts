import type { JobScope } from '../cancellation/JobScope.ts'
import type { TaskEvent } from '../job/event.ts'
import type { JobKey } from '../job/key.ts'
import type { ContainedProcess, Containment } from '../resources/processes/Containment.ts'
import type { ExecutionLimits } from './Execution.ts'
import type { ExecOptions } from './task.ts'

export interface CommandSurroundings {
  readonly scope: JobScope
  readonly containment: Containment
  readonly commandEnv: Readonly<Record<string, string>>
  readonly defaultCwd: string
  readonly owner: JobKey
  readonly limits: ExecutionLimits
  readonly emit: (event: TaskEvent) => Promise<void>
}

/** Starts a tree that the scope holds from before it exists: whatever ends the job ends it. `letGo`: it is held no more. */
export async function spawnHeld(
  command: string | readonly [string, ...string[]],
  options: Pick<ExecOptions, 'cwd' | 'env'> & { readonly hasStdin: boolean },
  surroundings: Omit<CommandSurroundings, 'emit'>,
): Promise<{ readonly tree: ContainedProcess; readonly letGo: () => void }> {
  const spawning = surroundings.containment.spawn({
    argv: typeof command === 'string' ? ['/bin/sh', '-c', command] : command,
    cwd: options.cwd ?? surroundings.defaultCwd,
    env: { ...surroundings.commandEnv, ...options.env },
    stdin: options.hasStdin,
    owner: surroundings.owner,
  })
  const letGo = holdTree(surroundings.scope, spawning)
  const tree = await spawning.catch((error: unknown) => {
    letGo()
    throw error
  })
  return { tree, letGo }
}

function holdTree(scope: JobScope, spawning: Promise<ContainedProcess>): () => void {
  return scope.hold({
    kind: 'processes',
    isPrompt: true,
    async release({ graceMs, deadlineMs }) {
      // Where it could not be started, whoever started it is told; here there is nothing to end.
      const tree = await spawning.catch(() => undefined)
      if (tree === undefined) return { count: 0 }
      const report = await tree.end({ graceMs, deadlineMs })
      return {
        count: report.processes,
        survivors: report.survivors,
        killedAtMs: report.killedAtMs,
        verifiedAtMs: report.verifiedAtMs,
      }
    },
  })
}
