import { once } from 'node:events'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'

/** The write-ahead log is carried into the database each time about this much was written to it. */
const CHECKPOINT_BYTES = 16 * 1024 * 1024

/**
 * Carries the write-ahead log into the database from a thread of its own, because a checkpoint waits for the disk twice. With
 * 20,000 events a second the longest stop of the event loop in a commit was 22 ms where SQLite checkpoints within the commit
 * every 4 MB, 97 ms every 16 MB, and 7 ms with this; beside another process that kept the disk busy 51, 73 and 6 ms.
 *
 * A pass runs beside the commits and leaves what they add meanwhile. Only a pass that leaves nothing lets the log begin anew,
 * and under steady load no pass would; so a second one follows, for the little that is left, and the commits wait for it
 * (`hold`) without holding up the event loop. No pass ever starts on a log that is carried over already and not yet begun anew:
 * that is where SQLite before 3.51.3 could lose pages (https://sqlite.org/wal.html#walresetbug).
 *
 * Where the thread fails, SQLite's own checkpoints step in, later and on the event loop's time (SqliteFile.ts).
 */
export class Checkpointer {
  readonly #path: string
  readonly #onError: (error: unknown) => void
  #worker: Worker | undefined
  #writtenBytes = 0
  #passes: Promise<void> | undefined
  #hold: Promise<unknown> | undefined

  constructor(path: string, onError: (error: unknown) => void) {
    this.#path = path
    this.#onError = onError
  }

  /** What a write has to wait for, where there is something; it never rejects. */
  get hold(): Promise<unknown> | undefined {
    return this.#hold
  }

  /** A transaction was committed that added about `bytes` to the write-ahead log. */
  wrote(bytes: number): void {
    this.#writtenBytes += bytes
    if (this.#writtenBytes < CHECKPOINT_BYTES || this.#passes !== undefined) return
    this.#writtenBytes = 0
    this.#passes = this.#run().finally(() => {
      this.#passes = undefined
    })
  }

  /** Settles when no pass is under way and the thread has ended. */
  async stop(): Promise<void> {
    await this.#passes
    await this.#worker?.terminate()
    this.#worker = undefined
  }

  async #run(): Promise<void> {
    // Not before it is needed: most stores that are opened never write this much.
    this.#worker ??= startWorker(this.#path)
    try {
      await passOf(this.#worker)
      if (this.#writtenBytes === 0) return
      const second = passOf(this.#worker)
      this.#hold = Promise.allSettled([second])
      await second
    } catch (error) {
      this.#worker = undefined
      this.#onError(error)
    } finally {
      this.#hold = undefined
    }
  }
}

function startWorker(path: string): Worker {
  // The same extension as this file's: it is `.js` where the program was compiled.
  const url = new URL(`./checkpointWorker${extname(import.meta.url)}`, import.meta.url)
  const worker = new Worker(url, { workerData: { path } })
  worker.unref()
  return worker
}

/** Settles when the thread has made one pass. Rejects where the thread failed, and has then ended. */
async function passOf(worker: Worker): Promise<void> {
  const answered = once(worker, 'message')
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  worker.postMessage('pass')
  await answered
}
