import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { JobView } from '../../job/view.ts'
import type { FileView } from '../api/ServerApi.ts'
import { useDashboard } from '../Dashboard.ts'
import { bytesText, countText, lineText } from '../format.ts'

const MAX_SHOWN = 100

/** What the job left in its workspace, to be saved: nothing of it is ever shown as a page. */
export function Files({ job }: { readonly job: JobView }): JSX.Element | null {
  const { api } = useDashboard()
  const [files, setFiles] = useState<readonly FileView[]>([])
  useEffect(() => {
    const life = new AbortController()
    // A job without a workspace, and one that was forgotten: there is nothing to list.
    api.files(job.id, life.signal).then(setFiles, () => undefined)
    return () => life.abort()
  }, [job.id, job.terminal])
  if (files.length === 0) return null
  return (
    <section class="panel" aria-labelledby="files-title">
      <h2 id="files-title">Files</h2>
      <ul class="files">
        {files.slice(0, MAX_SHOWN).map(({ path, bytes }) => (
          <li key={path}>
            <a href={`jobs/${job.id}/files/${path.split('/').map(encodeURIComponent).join('/')}`} download>
              <bdi>{lineText(path)}</bdi>
            </a>
            <span class="muted">{bytesText(bytes)}</span>
          </li>
        ))}
      </ul>
      {files.length > MAX_SHOWN && <p class="muted">and {countText(files.length - MAX_SHOWN)} more</p>}
    </section>
  )
}
