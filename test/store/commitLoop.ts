import { stdout } from 'node:process'
import type { StoreChange } from '../../src/store/JobStore.ts'
import { openSqliteJobStore } from '../../src/store/sqlite/SqliteJobStore.ts'
import { append, recordNamed, remove, upTo } from './records.ts'

// A process to be killed while it commits: `node commitLoop.ts DATABASE`. After each commit it prints the number of the event
// that both jobs of the pair then have.
const [, , path = ''] = process.argv
const store = await openSqliteJobStore({ path, durability: 'process', maxLogBytes: 2 ** 28 })
const pair = [recordNamed('left'), recordNamed('right')]

for (const job of pair) {
  const found = await store.lookup(job)
  if (found.kind !== 'found') await store.commit(upTo(job, 'running').changes)
}
const known = await Promise.all(pair.map((job) => store.lookup(job)))
const [first] = known
let seq = first?.kind === 'found' ? first.record.lastSeq : 2

for (;;) {
  // Two jobs that must always be alike, and one that comes and goes.
  const passing = recordNamed(`p${process.pid}_${seq}`)
  const changes: StoreChange[] = [
    ...pair.map((job) => append(job, seq + 1, 3)),
    ...upTo(passing, 'cancelled').changes,
    remove(passing),
  ]
  const results = await store.commit(changes)
  if (results.some(({ ok }) => !ok)) throw new Error(`refused: ${JSON.stringify(results)}`)
  seq += 3
  // Whoever reads may be slower than this.
  await new Promise((resolve) => stdout.write(`${seq}\n`, resolve))
  // Lets the logs of deleted jobs be removed.
  if (seq % 30 === 2) await new Promise(setImmediate)
}
