/** What a program in Node imports as `tether/client`. */
export * from './shared.ts'
export { TetherClient } from './TetherClient.ts'
