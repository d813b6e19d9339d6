import type { JobEvent } from '../../src/job/event.ts'
import type { JumpingClock } from '../JumpingClock.ts'
import { parseFrames } from '../world.ts'

/** What an agent says before it waits to ask again. */
export interface Retry {
  readonly model: string
  readonly attempt: number
  readonly waitMs: number
  readonly reason: string
}

/** Follows a job to its end, and sets its clock forward over every back-off. */
export async function jumpRetries(url: string, id: string, clock: JumpingClock): Promise<readonly Retry[]> {
  const response = await fetch(`${url}/jobs/${id}/events`)
  const retries: Retry[] = []
  let text = ''
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk
    const whole = text.lastIndexOf('\n\n') + 2
    if (whole < 2) continue
    for (const event of parseFrames(text.slice(0, whole))) {
      const retry = retryOf(event)
      if (retry === undefined) continue
      retries.push(retry)
      clock.jump(retry.waitMs)
    }
    text = text.slice(whole)
  }
  return retries
}

function retryOf(event: JobEvent): Retry | undefined {
  return event.type === 'data' && event.name === 'model.retry' ? (event.value as unknown as Retry) : undefined
}
