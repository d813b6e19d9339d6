import { useEffect, useState } from 'preact/hooks'
import { Backoff } from '../client/Backoff.ts'
import { isTemporary } from '../client/error.ts'
import type { TaskView } from './api/TaskView.ts'
import { comeBack } from './api/visibility.ts'
import { useDashboard } from './Dashboard.ts'
import { messageOf } from './messageOf.ts'
import { useChanges } from './useChanges.ts'

export interface Tasks {
  /** Undefined until the server has told them. */
  readonly tasks: readonly TaskView[] | undefined
  /** Why it does not, where it was asked in vain. */
  readonly failure: string | undefined
}

/** The tasks that may be started. They are fixed for as long as the server runs; it is asked until it says, or refuses for good. */
export function useTasks(): Tasks {
  const { api, feed } = useDashboard()
  const [tasks, setTasks] = useState<readonly TaskView[]>()
  const [failure, setFailure] = useState<string>()
  useChanges(feed.changes)
  const { connection } = feed
  useEffect(() => {
    const life = new AbortController()
    const ask = async (): Promise<void> => {
      const backoff = new Backoff()
      while (!life.signal.aborted) {
        try {
          setTasks(await api.tasks(life.signal))
          setFailure(undefined)
          return
        } catch (error) {
          if (life.signal.aborted) return
          setFailure(messageOf(error))
          if (!isTemporary(error)) return
          await comeBack(backoff.nextMs(), life.signal)
        }
      }
    }
    void ask()
    return () => life.abort()
  }, [connection])
  return { tasks, failure }
}
