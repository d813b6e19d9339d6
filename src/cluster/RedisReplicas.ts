import { isIP } from 'node:net'
import type { GroupId } from '../job/id.ts'
import type { JobRef } from '../job/key.ts'
import type { JobPolicy } from '../job/policy.ts'
import type {
  AskedRequest,
  ChangeListener,
  Claim,
  Followed,
  Hint,
  HintCounts,
  LostReplica,
  QueueLength,
  Replicas,
  Seal,
  Standing,
} from '../jobs/Replicas.ts'
import { StoreError } from '../store/JobStore.ts'
import type { BullJobQueue } from './BullJobQueue.ts'
import { Gathered } from './Gathered.ts'
import type { Hints } from './Hints.ts'
import type { Relay } from './Relay.ts'
import type { Asked, Remembered, RememberOptions, SharedJobs } from './SharedJobs.ts'

export interface RedisReplicasOptions {
  readonly shared: SharedJobs
  readonly queue: BullJobQueue
  readonly hints: Hints
  readonly relay: Relay
  /** How requests for jobs that are not known are kept. */
  readonly remember: Omit<RememberOptions, 'client'>
}

/** A process that clears up after another one has this long for it before it is another's turn. */
const CLEAR_MS = 10_000
/** A job that was recorded and is in no queue after this was left by a process that died in between. */
const UNQUEUED_MS = 2000
const SWEPT_AT_ONCE = 100
const COUNTS_AT_ONCE = 256

/** The processes that share a Redis. */
export class RedisReplicas implements Replicas {
  readonly id: string
  readonly #options: RedisReplicasOptions
  readonly #counts = new Gathered((priorities: readonly number[]) => this.#countWaiting(priorities), COUNTS_AT_ONCE)

  constructor(options: RedisReplicasOptions) {
    this.#options = options
    this.id = options.shared.replica
  }

  get unheardForMs(): number {
    return this.#options.hints.unreadForMs
  }

  get hintCounts(): HintCounts {
    return this.#options.hints.counts
  }

  async enqueue(ref: JobRef, priority: number): Promise<void> {
    const { queue, shared } = this.#options
    await queue.add(ref, priority)
    // Where this does not come through, the job is put into the queue again, which changes nothing.
    shared.noteQueued(ref).catch(() => undefined)
  }

  noteUnqueued(ref: JobRef): Promise<void> {
    return this.#options.shared.noteUnqueued(ref)
  }

  async dequeue(ref: JobRef): Promise<void> {
    await this.#options.queue.remove(ref).catch(() => false)
  }

  async admit(limits: readonly string[] = []): Promise<void> {
    const admitted = await this.#options.shared.listAdmitted(limits, SWEPT_AT_ONCE)
    await Promise.all(admitted.map(({ ref, priority }) => this.enqueue(ref, priority)))
  }

  countWaiting(priority: number): Promise<QueueLength> {
    return this.#counts.call(priority)
  }

  checkQueue(): Promise<void> {
    return this.#options.queue.check()
  }

  async #countWaiting(priorities: readonly number[]): Promise<readonly QueueLength[]> {
    const { queue, shared } = this.#options
    const distinct = [...new Set(priorities)]
    const [waiting, blocked, ...ahead] = await Promise.all([
      queue.countWaiting(),
      shared.countBlocked(),
      ...distinct.map((priority) => queue.positionOf(priority)),
    ])
    return priorities.map((priority) => ({ waiting: waiting + blocked, ahead: ahead[distinct.indexOf(priority)] ?? 0 }))
  }

  async claim(ref: JobRef): Promise<Claim> {
    const claim = await this.#options.shared.claim(ref)
    switch (claim.kind) {
      case 'claimed':
        return claim
      case 'asked':
        return { kind: 'asked', request: claim.request }
      case 'lost':
        throw new StoreError('the other servers take this one for gone')
      default:
        return { kind: 'none' }
    }
  }

  async ask(ref: JobRef, request: AskedRequest, { remember }: { readonly remember: boolean }): Promise<Standing> {
    const { shared, hints } = this.#options
    const asked = remember
      ? await shared.askOrRemember(ref, request, this.#rememberedFor(ref.tenant, request))
      : await shared.ask(ref, request)
    // What was asked stands in the job's record: its owner finds it there too, only later.
    if (asked.kind === 'owned') void hints.send(asked.owner, { kind: 'ask', ref, request })
    return standingOf(asked)
  }

  async askGroup(tenant: string, group: string, request: AskedRequest): Promise<Standing> {
    const { shared } = this.#options
    return standingOf(
      await shared.rememberGroup(tenant, group as GroupId, request, this.#rememberedFor(tenant, request)),
    )
  }

  asked(refs: readonly JobRef[]): Promise<readonly (AskedRequest | undefined)[]> {
    return Promise.all(refs.map((ref) => this.#options.shared.asked(ref)))
  }

  giveBack(ref: JobRef, owner: string, waitsUntil?: number): Promise<boolean> {
    return this.#options.shared.giveBack(ref, owner, waitsUntil)
  }

  owned(): Promise<readonly JobRef[]> {
    return this.#options.shared.ownedBy(this.id)
  }

  seal(ref: JobRef): Promise<Seal> {
    return this.#options.shared.seal(ref)
  }

  async hold(ref: JobRef, from?: string): Promise<void> {
    const held = await this.#options.shared.hold(ref, from)
    if (held === 'lost') throw new StoreError('the other servers take this one for gone')
  }

  async leave(ref: JobRef): Promise<JobPolicy | undefined> {
    return (await this.#options.shared.leave(ref))?.policy
  }

  letGo(ref: JobRef): Promise<void> {
    return this.#options.shared.letGo(ref)
  }

  async tell(hint: Hint): Promise<boolean> {
    const { shared, hints } = this.#options
    try {
      const { owner, holders } = await shared.whoHas(hint.ref)
      const owners = owner === undefined ? [] : [owner]
      const told = { ask: owners, policy: [...new Set([...owners, ...holders])], lease: holders }[hint.kind]
      const sent = await Promise.all(told.map((replica) => hints.send(replica, hint)))
      return sent.some(Boolean)
    } catch (error) {
      if (error instanceof StoreError) return false
      throw error
    }
  }

  onHint(listener: (hint: Hint) => void): () => void {
    return this.#options.hints.onHint(listener)
  }

  async sweep(): Promise<{ readonly overdue: readonly JobRef[]; readonly unqueued: readonly JobRef[] }> {
    const { shared } = this.#options
    const [overdue, unqueued] = await Promise.all([
      shared.listOverdue(SWEPT_AT_ONCE),
      shared.listUnqueued(UNQUEUED_MS, SWEPT_AT_ONCE),
    ])
    return { overdue, unqueued }
  }

  async takeDead(): Promise<readonly LostReplica[]> {
    const { shared } = this.#options
    const dead = await shared.takeDead(CLEAR_MS)
    return Promise.all(
      dead.map(async (id) => {
        const [owned, held] = await Promise.all([shared.ownedBy(id), shared.heldBy(id)])
        return { id, owned, held }
      }),
    )
  }

  async forget(replica: string): Promise<void> {
    await this.#options.shared.forgetReplica(replica)
  }

  watch(listener: ChangeListener): () => void {
    return this.#options.relay.watch(listener)
  }

  follow(ref: JobRef, lastSeq: number): Followed {
    return this.#options.relay.follow(ref, lastSeq)
  }

  cutOff(ref: JobRef, why: Error): void {
    this.#options.relay.lose(ref, why)
  }

  #rememberedFor(tenant: string, { by = '' }: AskedRequest): RememberOptions {
    const { remember } = this.#options
    // One who is known by more than an address may be many: there is nobody to keep from taking all.
    const maxOfClient = isIP(by) === 0 ? remember.maxInAll : remember.maxOfClient
    return { ...remember, maxOfClient, client: `${tenant}/${by}` }
  }
}

function standingOf(asked: Asked | Remembered): Standing {
  if (asked.kind !== 'remembered') return asked
  return { kind: 'remembered', request: asked.request.kind, expiresAt: asked.expiresAt }
}
