/** The `default:` of a switch that handles every member of a union; the compiler refuses it where one is missing. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`)
}
