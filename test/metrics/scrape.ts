import { ask } from '../server/requests.ts'
import { Exposition } from './Exposition.ts'

/** What `GET /metrics` answers, which must be well formed. */
export async function scrape(url: string, headers: Readonly<Record<string, string>> = {}): Promise<Exposition> {
  const { status, headers: answered, text } = await ask(url, '/metrics', { headers })
  if (status !== 200) throw new Error(`a scrape was answered with ${status}: ${text}`)
  const type = answered.get('content-type')
  if (type !== 'text/plain; version=0.0.4; charset=utf-8') throw new Error(`a scrape must be text, and is ${type}`)
  return new Exposition(text)
}
