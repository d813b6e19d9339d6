import type { JobView } from '../../job/view.ts'
import type { CancelAnswer } from '../CancelAnswer.ts'
import { EXIT, type ExitCode } from './exit.ts'
import type { Command } from './invocation.ts'
import { outcomeLine, outcomeOf } from './outcome.ts'
import { readableResult } from './result.ts'
import type { Session } from './Session.ts'

/** The commands that ask once and print the answer. */
type Question = Extract<Command, { kind: 'list' | 'tasks' | 'show' | 'cancel' | 'stop' }>

/** Long enough for most outcomes; a job that takes longer is reported as accepted, and ends without us. */
const WAIT_SECONDS = 5

export async function answerCommand(session: Session, question: Question): Promise<ExitCode> {
  const { client, screen, view } = session
  switch (question.kind) {
    case 'list':
      await list(session)
      break
    case 'tasks':
      for (const task of await client.tasks()) {
        await (view.kind === 'json' ? screen.json(task) : screen.row(task.name))
      }
      break
    case 'show':
      await show(session, await client.job(question.id))
      break
    case 'cancel':
    case 'stop': {
      const { kind, id } = question
      await showAnswer(
        session,
        id,
        await client[kind](id, { reason: `${kind} at the client`, waitSeconds: WAIT_SECONDS }),
      )
      break
    }
  }
  return EXIT.succeeded
}

async function list({ client, screen, view }: Session): Promise<void> {
  const { jobs, nextCursor } = await client.list()
  for (const job of jobs) {
    if (view.kind === 'json') await screen.json(job)
    else await screen.row(`${job.id}  ${job.status.padEnd(11)}  ${job.createdAt}  ${job.task}`)
  }
  if (nextCursor !== undefined) screen.line(`these are the newest ${jobs.length}; there are more`)
}

async function show({ screen, view }: Session, job: JobView): Promise<void> {
  switch (view.kind) {
    case 'text':
      await screen.json(job, 2)
      break
    case 'json':
      await screen.json(job)
      break
    case 'quiet':
      if (job.result !== undefined) await screen.value(readableResult(job.task, job.result))
      break
  }
}

async function showAnswer({ screen, view }: Session, id: string, answer: CancelAnswer): Promise<void> {
  if (answer.kind === 'remembered') {
    await screen.row(`remembered: job ${id} is not known yet`)
    return
  }
  const outcome = outcomeOf(answer.job)
  if (view.kind === 'json') await screen.json(answer.job)
  else await screen.row(outcome === undefined ? `${answer.job.status}: accepted, not ended yet` : outcomeLine(outcome))
}
