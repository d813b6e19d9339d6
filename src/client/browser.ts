/** What a page imports as `tether/client`: nothing of it needs Node. */

export { TetherClient } from './browser/TetherClient.ts'
export * from './shared.ts'
