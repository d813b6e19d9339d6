import { ServerUnreachable, TetherApiError } from './error.ts'
import type { WireAnswer } from './Wire.ts'

/**
 * The JSON of an answer; its shape is the server's promise (protocol, section 3).
 * @throws {TetherApiError} where the server refused.
 * @throws {ServerUnreachable} where something answered that is no Tether server (a proxy's page, another program).
 */
export async function readAnswer<T>(answer: WireAnswer, server: string): Promise<T> {
  const body = parse(await answer.text())
  if (body === undefined) {
    throw new ServerUnreachable(`${server} answered ${answer.status}, and not as a Tether server does`)
  }
  if (answer.status >= 300) throw refusalOf(answer, body, server)
  return body as T
}

function refusalOf(answer: WireAnswer, body: object, server: string): Error {
  if (!('code' in body) || typeof body.code !== 'string' || !('message' in body) || typeof body.message !== 'string') {
    return new ServerUnreachable(`${server} answered ${answer.status}, and not as a Tether server does`)
  }
  const retryAfterSeconds = Number(answer.header('retry-after') ?? Number.NaN)
  return new TetherApiError(
    answer.status,
    body.code,
    body.message,
    Number.isFinite(retryAfterSeconds) ? retryAfterSeconds : undefined,
  )
}

function parse(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
