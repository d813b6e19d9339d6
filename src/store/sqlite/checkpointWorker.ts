import { DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { text } from './columns.ts'

// Runs in a thread of its own with a connection of its own (Checkpointer.ts). An error ends the thread, and its owner is told.
const port = parentPort
if (port === null) throw new Error('checkpointWorker must be started as a worker thread')

const sqlite = new DatabaseSync(text(workerData, 'path'))
sqlite.exec('PRAGMA synchronous = NORMAL')
const checkpoint = sqlite.prepare('PRAGMA wal_checkpoint(PASSIVE)')

port.on('message', () => {
  checkpoint.run()
  port.postMessage('done')
})
