import { isJobId } from '../client/jobId.ts'

/** What the page shows. It stands behind the `#`, which never reaches a server or its log. */
export type Route =
  | { readonly page: 'jobs'; readonly query: URLSearchParams }
  | { readonly page: 'job'; readonly id: string }
  | { readonly page: 'start'; readonly task: string | undefined }
  | { readonly page: 'unknown' }

export function routeOf(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#/, '').split('?')
  const parts = path.split('/').filter((part) => part !== '')
  const [first, second] = parts
  if (first === undefined) return { page: 'jobs', query: new URLSearchParams(query) }
  if (first === 'jobs' && second !== undefined && parts.length === 2 && isJobId(second)) {
    return { page: 'job', id: second }
  }
  if (first === 'start' && parts.length === 1) {
    return { page: 'start', task: new URLSearchParams(query).get('task') ?? undefined }
  }
  return { page: 'unknown' }
}

export function jobHash(id: string): string {
  return `#/jobs/${id}`
}
