import { isJobId, type JobId } from './id.ts'

declare const brand: unique symbol

/** A job's id together with its tenant, as one text: what maps inside the process are keyed by. */
export type JobKey = string & { readonly [brand]: 'JobKey' }

/** Where no authentication says otherwise, everything belongs to this tenant. */
export const DEFAULT_TENANT = 'default'

export interface JobRef {
  readonly tenant: string
  readonly id: JobId
}

/** For the default tenant the key is the id itself; ids hold no `:`, so keys of different tenants never meet. */
export function keyOf(ref: JobRef): JobKey {
  return (ref.tenant === DEFAULT_TENANT ? ref.id : `${ref.tenant}:${ref.id}`) as JobKey
}

/** All jobs of a group; never the key of a job, since ids and group ids hold no `/`. */
export function groupKeyOf(tenant: string, group: string): string {
  return `group/${tenant}/${group}`
}

/** The job whose key `text` is; undefined where it is none. */
export function parseKey(text: string): JobRef | undefined {
  const [tenant, id] = text.includes(':')
    ? [text.slice(0, text.lastIndexOf(':')), text.split(':').at(-1)]
    : [DEFAULT_TENANT, text]
  return id !== undefined && isJobId(id) ? { tenant, id } : undefined
}
