import type { JobId } from '../job/id.ts'
import type { JobRef } from '../job/key.ts'
import type { ListFilter, ListPlace } from '../store/JobStore.ts'

// Names of keys and channels without the prefix that all of them have. The scripts in `lua` write these keys:
//
// job:REF        hash     a record (records.ts), where its log and its lists stand, its `owner` ('' while any replica may take it
//                         from the queue), the request to end it that it has not followed yet (`asked`), `sealed`, once its own
//                         outcome is certain, and `limits`, `rank` and `blockedBy` (limits.lua)
// log:REF        stream   its log: an entry a batch, whose id is the number of its last event. Each entry is published on a
//                         channel of this name: FIRST LAST, a line break, its lines
// requests:REF   stream   what was asked of it (RequestTable.ts says what that is for SQLite): an entry a request, by its number. It
//                         expires where there is no job; `strays`, zset, REFs of those that never had one, by when
// spent:REF      string   there while the id cannot be used again
// keys:TENANT    hash     idempotency keys, each with the REF that has it
// index:…:STATUS zset     lists of jobs, by their place
// active, ended  zset     jobs that are not terminal, by place and tenant; REFs of those that are, by the time
// unqueued       zset     REFs of jobs that are not yet known to be in the queue, by when they were recorded
// waits          zset     REFs of jobs that wait in the queue, by when they are to be ended there
// running:LIMIT  set      REFs of jobs that run and count against a limit; `blocked:LIMIT`, zset, those that it holds back, by their
//                         turn; `limits`, the names of those that hold back any, and `blocked`, all that are held back
// values:…       hash     what tasks keep, and `valuekeys:…`, its keys in order
// tombstones     hash     requests for jobs and groups that are not known; `tombstones:ends`, when each expires;
//                         `tombstones:clients`, who asked, and `tombstones:counts`, how many of each
// replicas       zset     replicas that live, by when that must have been said anew
// dead           zset     those of whom it was not, while another clears up after them, by when it must have done so
// owned:REPLICA  set      REFs of the jobs that it owns
// held:REPLICA   set      REFs of the jobs that it has holders of, or had the last holder of and has not done yet what follows from
//                         that; and `holders:REF`, hash, the replicas that hold one
// session:…      hash     what one process committed last (CommitLine.ts)
// queue:…                 what BullMQ keeps (BullJobQueue.ts), with a job a REF, `/` for its `:`
// hints:REPLICA  stream   what other processes tell this one (Hints.ts)

/** So that parts of a name never run into each other, whatever they hold; the line break parts names in a job's `indexes`. */
function escaped(text: string): string {
  return text.replaceAll(/[%:\n]/g, encodeURIComponent)
}

/** A job among all tenants. Ids hold nothing that would have to be escaped. */
export function refName({ tenant, id }: JobRef): string {
  return `${escaped(tenant)}:${id}`
}

export function parseRefName(name: string): JobRef {
  const [tenant = '', id = ''] = name.split(':')
  return { tenant: decodeURIComponent(tenant), id: id as JobId }
}

/** A job in the queue: BullMQ takes no name with `:`, and none that is a number. Ids hold no `/`. */
export function queueName(ref: JobRef): string {
  return refName(ref).replace(':', '/')
}

export function parseQueueName(name: string): JobRef {
  const slash = name.lastIndexOf('/')
  return parseRefName(`${name.slice(0, slash)}:${name.slice(slash + 1)}`)
}

/** Places sort as texts in the order of lists: digits, all of the same number of them, then the id. */
export function placeName({ createdAt, id }: ListPlace): string {
  return `${String(createdAt).padStart(16, '0')}${id}`
}

/** The job of a member of `active`: its place, a space (which sorts before all that ids are made of), its tenant. */
export function parseActiveName(name: string): JobRef {
  const space = name.indexOf(' ')
  return { tenant: decodeURIComponent(name.slice(space + 1)), id: name.slice(16, space) as JobId }
}

export function tenantName(tenant: string): string {
  return escaped(tenant)
}

export function limitName(name: string): string {
  return escaped(name)
}

export function valuesName(tenant: string, task: string): string {
  return `${escaped(tenant)}:${escaped(task)}`
}

type Listed = Pick<ListFilter, 'tenant' | 'task' | 'group' | 'parentId'>

/** The lists in which a job stands; the one that `list` reads comes last: a parent and a group have the fewest jobs. */
export function indexNames({ tenant, task, group, parentId }: Listed): readonly string[] {
  return [
    escaped(tenant),
    ...(task === undefined ? [] : [`${escaped(tenant)}:task:${escaped(task)}`]),
    ...(group === undefined ? [] : [`${escaped(tenant)}:group:${group}`]),
    ...(parentId === undefined ? [] : [`${escaped(tenant)}:parent:${parentId}`]),
  ]
}
