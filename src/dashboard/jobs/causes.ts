import type { Cancellation } from '../../job/cancellation.ts'

/** Why a job was asked to end, in words. */
export const CAUSES = {
  client_disconnected: 'Its client is gone',
  cancel_requested: 'Cancel asked for',
  stop_requested: 'Stop asked for',
  stop_deadline: 'The stop took too long',
  timed_out: 'Its time was over',
  idle_timed_out: 'It said nothing for too long',
  server_shutdown: 'The server was shut down',
  parent_cancelled: 'Its parent was cancelled',
  parent_stopped: 'Its parent was stopped',
  parent_ended: 'Its parent ended',
  slow_consumer: 'Its client read nothing any more',
  lease_missed: 'Its client renewed no lease',
} as const satisfies Record<Cancellation['cause'], string>
