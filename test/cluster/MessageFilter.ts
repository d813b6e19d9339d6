/** Takes messages of channels out of what Redis says (https://redis.io/docs/latest/develop/reference/protocol-spec/, RESP2). */
export class MessageFilter {
  readonly #drops: () => boolean
  #rest = Buffer.alloc(0)

  constructor(drops: () => boolean) {
    this.#drops = drops
  }

  /** What is to be passed on of what has come so far. */
  pass(chunk: Buffer): Buffer {
    this.#rest = Buffer.concat([this.#rest, chunk])
    const passed: Buffer[] = []
    for (;;) {
      const end = endOf(this.#rest, 0)
      if (end === undefined) return Buffer.concat(passed)
      const reply = this.#rest.subarray(0, end)
      this.#rest = this.#rest.subarray(end)
      if (!reply.toString('latin1', 0, 20).startsWith('*3\r\n$7\r\nmessage\r\n') || !this.#drops()) passed.push(reply)
    }
  }
}

/** Where the reply that begins at `start` ends; undefined while it is not all there. */
function endOf(bytes: Buffer, start: number): number | undefined {
  const lineEnd = bytes.indexOf('\r\n', start)
  if (lineEnd === -1) return undefined
  const type = String.fromCharCode(bytes[start] ?? 0)
  const length = Number(bytes.toString('latin1', start + 1, lineEnd))
  let end: number | undefined = lineEnd + 2
  if (type === '$' && length >= 0) end += length + 2
  if (type === '*') for (let n = 0; n < length && end !== undefined; n += 1) end = endOf(bytes, end)
  return end === undefined || end > bytes.length ? undefined : end
}
