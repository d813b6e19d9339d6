import { TetherClient } from 'tether/client'

const client = new TetherClient({ server: '/tether' })
const abort = new AbortController()
document.querySelector('button')?.addEventListener('click', () => abort.abort())
for await (const event of client.run(
  { task: 'ticks', input: { count: 3, intervalMs: 10 } },
  { signal: abort.signal },
)) {
  if (event.type === 'output') document.body.append(event.text)
}
