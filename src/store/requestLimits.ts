/**
 * What is kept of the requests of one job: the first and the newest. Whoever asks again and again pushes out of it neither who was
 * first nor who was last, and the numbers show that some are missing.
 */
export const MAX_REQUESTS_OF_JOB = 1000
export const FIRST_REQUESTS_OF_JOB = 100

/**
 * The same of an id that no job has, and had none lately: whoever may ask need not have started anything for it, and asking to end
 * something is never limited.
 */
export const MAX_REQUESTS_OF_STRAY = 20
export const FIRST_REQUESTS_OF_STRAY = 10

/** Requests of such an id are kept this long after the last of them, in ms. */
export const STRAY_MS = 24 * 60 * 60 * 1000

/** Of so many such ids, the newest, requests are kept in the whole store. */
export const MAX_STRAYS = 10_000
