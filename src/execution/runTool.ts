import type { JobScope } from '../cancellation/JobScope.ts'
import type { TaskEvent } from '../job/event.ts'
import type { Json } from '../job/json.ts'
import { messageOf } from '../job/messageOf.ts'
import { shownInput, summaryOf } from './shownTool.ts'
import type { ToolAnswer } from './task.ts'
import { untilCancelled } from './untilCancelled.ts'

export interface ToolSurroundings {
  readonly scope: JobScope
  readonly emit: (event: TaskEvent) => Promise<void>
  readonly callId: string
}

/**
 * Runs one call of a tool, with its phase and its two events; the caller has met a boundary. After a cancel nobody waits for a tool
 * that does not listen, but it is not forgotten: the job holds it until it settles, and a receipt is not confirmed while it has not.
 */
export async function runTool(
  name: string,
  input: Json,
  work: () => Promise<string | ToolAnswer>,
  { scope, emit, callId }: ToolSurroundings,
): Promise<ToolAnswer> {
  const leave = scope.enter(`tool:${name}`)
  try {
    await emit({ type: 'tool.started', tool: name, callId, input: shownInput(input) })
    // A request that came while the log had no room is met before anything starts.
    scope.checkpoint()
    const answer = await untilCancelled(scope, heldUntilSettled(scope, work()))
    const { text, summary, ok } = typeof answer === 'string' ? { text: answer } : answer
    const told: ToolAnswer = { text, summary: summaryOf(summary ?? text), ok: ok ?? true }
    await emit({ type: 'tool.finished', tool: name, callId, ok: told.ok === true, summary: told.summary ?? '' })
    return told
  } catch (error) {
    if (scope.isCancelled) scope.checkpoint()
    const summary = summaryOf(messageOf(error))
    // A stop that surfaced in the tool is no failure of the tool's.
    await emit({
      type: 'tool.finished',
      tool: name,
      callId,
      ok: false,
      summary: scope.isOwnStop(error) ? 'stopped' : summary,
    })
    throw error
  } finally {
    leave()
  }
}

/** After a cancel, what goes on is something that the job still holds. */
function heldUntilSettled<T>(scope: JobScope, working: Promise<T>): Promise<T> {
  const settled = working.then(
    () => undefined,
    () => undefined,
  )
  const letGo = scope.hold({
    kind: 'other',
    isPrompt: false,
    async release() {
      await settled
      return { count: 0 }
    },
  })
  void settled.then(letGo)
  return working
}
