import { useEffect, useState } from 'preact/hooks'
import type { TaskView } from './api/TaskView.ts'
import { useDashboard } from './Dashboard.ts'
import { useChanges } from './useChanges.ts'

/** The tasks that may be started; undefined until they were asked for. They are fixed for as long as the server runs. */
export function useTasks(): readonly TaskView[] | undefined {
  const { api, feed } = useDashboard()
  const [tasks, setTasks] = useState<readonly TaskView[]>()
  useChanges(feed.changes)
  const { connection } = feed
  useEffect(() => {
    const life = new AbortController()
    // Where it fails, the page says that it is not connected, and asks again when it is.
    api.tasks(life.signal).then(setTasks, () => undefined)
    return () => life.abort()
  }, [connection])
  return tasks
}
