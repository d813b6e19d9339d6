import type { Readable } from 'node:stream'
import type { TetherClient } from '../TetherClient.ts'
import type { OnInterrupt, View } from './invocation.ts'
import type { Screen } from './Screen.ts'
import type { Signals } from './Signals.ts'

/** What every command works with. */
export interface Session {
  readonly client: TetherClient
  readonly screen: Screen
  readonly view: View
  readonly signals: Signals
  readonly stdin: Readable
  /** Undefined where the command line does not say. */
  readonly onInterrupt: OnInterrupt | undefined
}
