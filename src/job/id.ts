import { v7 as uuidv7 } from 'uuid'
import { TetherError } from './error.ts'

declare const brand: unique symbol

/** The name of one job: `[A-Za-z0-9_-]{8,64}`, minted by the server or by the client that starts it. */
export type JobId = string & { readonly [brand]: 'JobId' }

/** The name under which several jobs are cancelled or stopped together; the same alphabet as a job's id. */
export type GroupId = string & { readonly [brand]: 'GroupId' }

const ID = /^[A-Za-z0-9_-]{8,64}$/

export function isJobId(text: string): text is JobId {
  return ID.test(text)
}

/** @throws {TetherError} `TETHER_INVALID_JOB_ID` where `text` is not 8 to 64 of `A-Z a-z 0-9 _ -`. */
export function parseJobId(text: string): JobId {
  if (!isJobId(text)) throw malformed('job', text)
  return text
}

/** @throws {TetherError} `TETHER_INVALID_JOB_ID` where `text` is not 8 to 64 of `A-Z a-z 0-9 _ -`. */
export function parseGroupId(text: string): GroupId {
  if (!ID.test(text)) throw malformed('group', text)
  return text as GroupId
}

/** A new id that sorts by the time of its making (UUID version 7, RFC 9562 section 5.7, without the dashes). */
export function mintJobId(): JobId {
  return `job_${uuidv7().replaceAll('-', '')}` as JobId
}

function malformed(noun: string, text: string): TetherError {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text
  return new TetherError(
    'TETHER_INVALID_JOB_ID',
    `a ${noun} id must be 8 to 64 characters of A-Z a-z 0-9 _ -, got ${JSON.stringify(shown)}`,
  )
}
