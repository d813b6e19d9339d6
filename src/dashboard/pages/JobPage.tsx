import type { JSX } from 'preact'
import { useEffect, useMemo, useState } from 'preact/hooks'
import { TetherApiError } from '../../client/error.ts'
import type { JobView } from '../../job/view.ts'
import { useDashboard } from '../Dashboard.ts'
import { countText, durationText, elapsedText, lineText, timeText } from '../format.ts'
import { JobWatch } from '../jobs/JobWatch.ts'
import { messageOf } from '../messageOf.ts'
import { EndButtons } from '../parts/EndButtons.tsx'
import { Files } from '../parts/Files.tsx'
import { Icon } from '../parts/Icon.tsx'
import { JobTree } from '../parts/JobTree.tsx'
import { Requests } from '../parts/Requests.tsx'
import { StatusChip } from '../parts/StatusChip.tsx'
import { StopTimeline } from '../parts/StopTimeline.tsx'
import { Transcript } from '../parts/Transcript.tsx'
import { useNow } from '../parts/useNow.ts'
import { ValueText } from '../parts/ValueText.tsx'
import { jobHash } from '../Route.ts'
import { isUsed } from '../trace/sumUsage.ts'
import type { Progress } from '../trace/Trace.ts'
import { useChanges } from '../useChanges.ts'

export function JobPage({ id }: { readonly id: string }): JSX.Element {
  const { api, table, signal } = useDashboard()
  const [watch, close] = useMemo(() => {
    const life = new AbortController()
    return [
      new JobWatch(id, { api, table, signal: AbortSignal.any([signal, life.signal]) }),
      () => life.abort(),
    ] as const
  }, [id])
  useEffect(() => {
    watch.start()
    return close
  }, [watch])
  useChanges(watch.changes, table.changes)
  const job = latest(watch.job, table.get(id))
  useEffect(() => {
    document.title = `${job === undefined ? 'Job' : lineText(job.task)} · Tether`
  }, [job?.task])
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      const isFree = !(event.target instanceof HTMLElement && event.target.matches('input, textarea, select'))
      if (event.key === 'Escape' && isFree) location.hash = '#/'
    }
    addEventListener('keydown', onKeyDown)
    return () => removeEventListener('keydown', onKeyDown)
  }, [])
  if (job === undefined) return <NoJob watch={watch} />
  return (
    <article class="job-page">
      <Head job={job} watch={watch} />
      <div class="job-columns">
        <div class="job-main">
          <Bar progress={watch.trace.progress} isActive={!job.terminal} />
          <Transcript watch={watch} />
          {watch.failure !== undefined && (
            <p class="notice bad" role="alert">
              {messageOf(watch.failure)}
            </p>
          )}
        </div>
        <aside class="job-side" aria-label="About this job">
          <StopTimeline job={job} />
          <Requests job={job} />
          <JobTree job={job} />
          <Facts job={job} watch={watch} />
          <Files job={job} />
          {job.result !== undefined && (
            <details class="panel" open>
              <summary>Result</summary>
              <ValueText value={job.result} />
            </details>
          )}
          {job.input !== undefined && (
            <details class="panel">
              <summary>Input</summary>
              <ValueText value={job.input} />
            </details>
          )}
        </aside>
      </div>
    </article>
  )
}

/** The feed's row may be ahead of what was asked for, and lacks what may be long. */
function latest(asked: JobView | undefined, row: JobView | undefined): JobView | undefined {
  if (asked === undefined || row === undefined || asked.lastSeq >= row.lastSeq) return asked ?? row
  return { ...(asked.input === undefined ? {} : { input: asked.input }), ...row }
}

function NoJob({ watch }: { readonly watch: JobWatch }): JSX.Element {
  const { failure } = watch
  if (failure === undefined) return <p class="message-page muted">Loading…</p>
  const isGone = failure instanceof TetherApiError && failure.statusCode === 404
  return (
    <section class="message-page">
      <h1>{isGone ? 'There is no such job' : 'The job cannot be shown'}</h1>
      <p>
        {isGone ? (
          <>
            <span class="mono">{watch.id}</span> is not known here; it may have been forgotten.
          </>
        ) : (
          messageOf(failure)
        )}
      </p>
      <p>
        <a href="#/">All jobs</a>
      </p>
    </section>
  )
}

function Head({ job, watch }: { readonly job: JobView; readonly watch: JobWatch }): JSX.Element {
  const { held } = useDashboard()
  useChanges(held.changes)
  const nowMs = useNow(!job.terminal)
  const { id, task, status, startedAt, endedAt, parentId, failure } = job
  const endMs = endedAt === undefined ? nowMs : Date.parse(endedAt)
  const ranMs = startedAt === undefined ? undefined : Math.max(0, endMs - Date.parse(startedAt))
  return (
    <header class="job-head">
      <a class="back" href={parentId === undefined ? '#/' : jobHash(parentId)}>
        <Icon name="back" />
        {parentId === undefined ? 'All jobs' : 'Parent'}
      </a>
      <div class="job-title">
        <h1>
          <bdi>{lineText(task)}</bdi>
        </h1>
        <StatusChip status={status} />
        {ranMs !== undefined && (
          <span class="muted ran">{job.terminal ? durationText(ranMs) : elapsedText(ranMs)}</span>
        )}
        {(watch.connection === 'reconnecting' || watch.connection === 'paused') && (
          <span class="chip chip-stopping" role="status">
            {watch.connection === 'paused' ? 'Paused for another tab' : 'Reconnecting…'}
          </span>
        )}
      </div>
      <EndButtons job={job} watch={watch} />
      <p class="mono muted job-id">{id}</p>
      {failure !== undefined && (
        <p class="notice bad">
          <strong class="mono">{lineText(failure.code)}</strong> <bdi>{lineText(failure.message)}</bdi>
        </p>
      )}
      {held.has(id) && !job.terminal && <HeldNotice job={job} watch={watch} />}
    </header>
  )
}

/** Closing the tab has an effect, so it is said. */
function HeldNotice({ job, watch }: { readonly job: JobView; readonly watch: JobWatch }): JSX.Element {
  const { held } = useDashboard()
  const [failure, setFailure] = useState<string>()
  const does = job.policy.onDisconnect === 'stop' ? 'stops' : 'cancels'
  return (
    <p class="notice">
      This tab started the job: closing it {does} the job.{' '}
      <button
        type="button"
        class="button small"
        onClick={() => {
          held.letRun(job.id).then(
            (answer) => watch.put(answer),
            (error: unknown) => setFailure(messageOf(error)),
          )
        }}
      >
        Let it run on
      </button>
      {failure !== undefined && <span role="alert"> {failure}</span>}
    </p>
  )
}

function Bar({
  progress,
  isActive,
}: {
  readonly progress: Progress | undefined
  readonly isActive: boolean
}): JSX.Element | null {
  if (progress === undefined) return null
  const { current, total, message } = progress
  const said = total === undefined ? countText(current) : `${countText(current)} of ${countText(total)}`
  return (
    <div class={`progress ${isActive ? '' : 'progress-over'}`}>
      <progress
        aria-label="Progress"
        {...(total === undefined ? (isActive ? {} : { value: 1 }) : { value: Math.min(current, total), max: total })}
      />
      <span>
        {said}
        {message !== undefined && (
          <>
            {' · '}
            <bdi>{lineText(message)}</bdi>
          </>
        )}
      </span>
    </div>
  )
}

function Facts({ job, watch }: { readonly job: JobView; readonly watch: JobWatch }): JSX.Element {
  const { createdAt, startedAt, endedAt, settledAt, group, replica, attempt, policy, metadata, receipt, terminal } = job
  const usage = receipt?.usage ?? watch.trace.usage
  const { inputTokens, outputTokens, totalTokens } = usage
  return (
    <section class="panel" aria-labelledby="facts-title">
      <h2 id="facts-title">Details</h2>
      <dl class="facts">
        {isUsed(usage) && (
          <>
            <dt>Usage</dt>
            <dd>
              {countText(totalTokens ?? (inputTokens ?? 0) + (outputTokens ?? 0))} tokens
              {inputTokens !== undefined && outputTokens !== undefined && (
                <span class="muted">
                  {' '}
                  ({countText(inputTokens)} in, {countText(outputTokens)} out)
                </span>
              )}
            </dd>
          </>
        )}
        <Time name="Created" iso={createdAt} />
        <Time name="Started" iso={startedAt} />
        <Time name="Ended" iso={endedAt} />
        <Time name="Settled late" iso={settledAt} />
        {attempt > 1 && (
          <>
            <dt>Attempt</dt>
            <dd>{countText(attempt)}</dd>
          </>
        )}
        {!terminal && (
          <>
            <dt>Client gone</dt>
            <dd>{DISCONNECT[policy.onDisconnect]}</dd>
          </>
        )}
        {group !== undefined && (
          <>
            <dt>Group</dt>
            <dd class="mono">{lineText(group)}</dd>
          </>
        )}
        {replica !== undefined && (
          <>
            <dt>Replica</dt>
            <dd class="mono">{lineText(replica)}</dd>
          </>
        )}
        {Object.entries(metadata).map(([key, value]) => (
          <div key={key} class="facts-pair">
            <dt>
              <bdi>{lineText(key)}</bdi>
            </dt>
            <dd>
              <bdi>{lineText(typeof value === 'string' ? value : JSON.stringify(value)).slice(0, 500)}</bdi>
            </dd>
          </div>
        ))}
      </dl>
    </section>
  )
}

const DISCONNECT = { cancel: 'cancels it', stop: 'stops it', continue: 'it runs on' } as const

function Time({ name, iso }: { readonly name: string; readonly iso: string | undefined }): JSX.Element | null {
  if (iso === undefined) return null
  return (
    <>
      <dt>{name}</dt>
      <dd>
        <time dateTime={iso}>{timeText(iso)}</time>
      </dd>
    </>
  )
}
