import { v7 as uuidv7 } from 'uuid'

const JOB_ID = /^[A-Za-z0-9_-]{8,64}$/

/** What a job's id looks like, in words (protocol, section 3). */
export const JOB_ID_FORM = '8 to 64 characters of A-Z a-z 0-9 _ -'

export function isJobId(text: string): boolean {
  return JOB_ID.test(text)
}

/** An id like those of the server, sorting by the time of its making. */
export function mintJobId(): string {
  return `job_${uuidv7().replaceAll('-', '')}`
}
