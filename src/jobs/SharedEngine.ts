import type { JobRef } from '../job/key.ts'
import type { JobStore, StoreError } from '../store/JobStore.ts'
import type { Replicas } from './Replicas.ts'

export interface ReplicaDuties {
  /** Runs a job that the queue of all has given to this process. Settles when the slot may go to another. Never rejects. */
  readonly run: (ref: JobRef) => Promise<void>
  /** The others may take this process for gone from now on. */
  readonly onLeaseLost: () => void
}

export interface SharedTerms {
  /** Of this process: unique to one start of it. */
  readonly replica: string
  /** Called each time that the others could not be reached; they are tried again when it has settled. */
  readonly onAway: (why: StoreError) => Promise<void>
}

/** How this process reaches the others. */
export interface EngineState {
  /** Whether the others still count with this process. */
  readonly hasLease: boolean
  /** How long that holds without a further sign of life. */
  readonly leaseLeftMs: number
  /** How long ago this process last heard what others ask of it. */
  readonly unheardForMs: number
}

/** What a process shares with others that work on the same jobs. */
export interface SharedEngine {
  readonly store: JobStore
  readonly replicas: Replicas
  /** From here on the others count with this process, and it gets jobs. */
  start(duties: ReplicaDuties): Promise<void>
  /** Asks for an answer, and settles with how things stand. Rejects with a `StoreError` where none comes. */
  check(): Promise<EngineState>
  /** No further job is given to this process. */
  stopClaiming(): void
  /** The others take up what this process leaves. Settles when nothing is open any more. */
  close(): Promise<void>
}
