import type { ComponentChildren, JSX } from 'preact'
import { useMemo, useState } from 'preact/hooks'
import { useDashboard } from '../Dashboard.ts'
import { countText, durationText, lineText } from '../format.ts'
import { stopTimesOf } from '../jobs/stopTimes.ts'
import { jobHash } from '../Route.ts'
import { useChanges } from '../useChanges.ts'

/** What goes on at this server, and how fast it stops. */
export function Overview(): JSX.Element {
  const { health: watch } = useDashboard()
  useChanges(watch.changes)
  const { health } = watch
  const { containment, stuck = [] } = health ?? {}
  const wrong = (health?.checks ?? []).filter(({ ok }) => !ok)
  return (
    <section class="overview" aria-label="Overview">
      <dl class="tiles">
        <Tile name="Running" value={numberOf(health?.running)} />
        <Tile name="Queued" value={numberOf(health?.queued)} />
        <Tile
          name="Stuck"
          value={health?.stuck === undefined ? '–' : countText(stuck.length)}
          tone={stuck.length > 0 ? 'bad' : undefined}
        >
          {stuck.slice(0, 3).map(({ id, task }) => (
            <a key={id} href={jobHash(id)}>
              {lineText(task)}
            </a>
          ))}
          {stuck.length === 0 && 'jobs that did not let go'}
        </Tile>
        <Tile
          name="Containment"
          value={containment === undefined ? '–' : lineText(containment.level)}
          tone={containment?.complete === false ? 'warm' : undefined}
        >
          {containment !== undefined &&
            (containment.complete ? 'complete: no process can leave it' : 'not complete: a process can leave it')}
        </Tile>
      </dl>
      {health !== undefined && !health.ready && (
        <p class="notice warm" role="status">
          {health.draining === true ? 'The server is shutting down and takes no jobs.' : 'The server takes no jobs.'}
          {wrong.map(({ name, detail }) => ` ${lineText(name)}: ${lineText(detail ?? 'not in order')}.`)}
        </p>
      )}
      <StopTimes />
    </section>
  )
}

interface TileProps {
  readonly name: string
  readonly value: string
  readonly tone?: 'bad' | 'warm' | undefined
  readonly children?: ComponentChildren
}

function Tile({ name, value, tone, children }: TileProps): JSX.Element {
  return (
    <div class={`tile ${tone ?? ''}`}>
      <dt>{name}</dt>
      <dd class="figure">{value}</dd>
      {children !== undefined && <dd class="hint">{children}</dd>}
    </div>
  )
}

function numberOf(count: number | undefined): string {
  return count === undefined ? '–' : countText(count)
}

function StopTimes(): JSX.Element {
  const { table } = useDashboard()
  const version = useChanges(table.changes)
  const times = useMemo(() => stopTimesOf(table.newestFirst), [version])
  const [isRoomy] = useState(() => matchMedia('(min-width: 46rem)').matches)
  const count = times.reduce((sum, { count }) => sum + count, 0)
  return (
    <details class="panel stop-times" open={isRoomy}>
      <summary>
        <h2>Time to stop</h2>
      </summary>
      {times.length === 0 ? (
        <p class="muted">No job that this page knows was stopped or cancelled yet.</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">Asked</th>
              <th scope="col">While</th>
              <th scope="col" class="number">
                Jobs
              </th>
              <th scope="col" class="number">
                p50
              </th>
              <th scope="col" class="number">
                p99
              </th>
            </tr>
          </thead>
          <tbody>
            {times.map(({ kind, phase, count, p50Ms, p99Ms }) => (
              <tr key={`${kind} ${phase}`}>
                <td>{kind}</td>
                <td>{lineText(phase)}</td>
                <td class="number">{countText(count)}</td>
                <td class="number">{durationText(p50Ms)}</td>
                <td class="number">{durationText(p99Ms)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <p class="hint">
        {count === 0
          ? 'Computed from the receipts of the jobs below.'
          : `From the ${countText(count)} ${count === 1 ? 'receipt' : 'receipts'} among the ${countText(table.newestFirst.length)} jobs that this page has loaded. A stop waits for the model call or tool in flight; a cancel does not.`}
      </p>
    </details>
  )
}
