import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Download } from 'playwright-core'
import { explain } from './explain.ts'
import type { Notes } from './Notes.ts'
import { safeName } from './safeName.ts'
import { WorkspaceFolder } from './WorkspaceFolder.ts'
import { within } from './within.ts'

const MAX_DOWNLOADS = 50
const MAX_BYTES = 256 * 1024 * 1024
const LOOK_EVERY_MS = 200

/** Files that pages make the browser download: into the folder `downloads` of the workspace, and nowhere else. */
export class Downloads {
  readonly #notes: Notes
  readonly #folder: WorkspaceFolder
  readonly #arriving: string
  readonly #running = new Map<Download, { readonly startedMs: number; readonly saving: Promise<void> }>()
  #looking: NodeJS.Timeout | undefined
  #count = 0
  #savedBytes = 0
  #files: string[] = []

  /** `arriving` is where the browser has them while they come. */
  constructor(options: { readonly workspace: string; readonly arriving: string; readonly notes: Notes }) {
    this.#notes = options.notes
    this.#folder = new WorkspaceFolder(options.workspace, 'downloads')
    this.#arriving = options.arriving
  }

  get areRunning(): boolean {
    return this.#running.size > 0
  }

  take(download: Download): void {
    this.#count += 1
    if (this.#count > MAX_DOWNLOADS) {
      this.#notes.add(`A download was refused: there were ${MAX_DOWNLOADS} already.`)
      void ignoring(download.cancel())
      return
    }
    this.#looking ??= setInterval(() => void this.#look(), LOOK_EVERY_MS)
    const saving = this.#save(download).finally(() => {
      this.#running.delete(download)
      if (this.areRunning) return
      clearInterval(this.#looking)
      this.#looking = undefined
    })
    this.#running.set(download, { startedMs: performance.now(), saving })
  }

  /** Settles when none runs any more that began after `sinceMs` (of `performance.now()`), or after `maxMs`. */
  async settled(sinceMs: number, maxMs: number): Promise<void> {
    const recent = [...this.#running.values()].filter(({ startedMs }) => startedMs >= sinceMs)
    await within(maxMs, Promise.all(recent.map(({ saving }) => saving)))
  }

  /** Those that arrived since the last call, below the workspace. */
  takeFiles(): readonly string[] {
    const files = this.#files
    this.#files = []
    return files
  }

  async #save(download: Download): Promise<void> {
    const shown = JSON.stringify(download.suggestedFilename().slice(0, 100))
    try {
      const failure = await download.failure()
      if (failure !== null) {
        this.#notes.add(`The download of ${shown} failed: ${failure}.`)
        return
      }
      const wanted = download.suggestedFilename()
      const { path, file } = await this.#folder.create((number) => safeName(wanted, number))
      // By the handle, and not by its name, in whose place there may be something else by now. It closes the file.
      await pipeline(createReadStream(await download.path()), file.createWriteStream())
      const { size } = await stat(await download.path())
      await download.delete()
      this.#savedBytes += size
      this.#files.push(path)
      this.#notes.add(`A file was downloaded: ${path} (${size} bytes).`)
    } catch (error) {
      this.#notes.add(`The download of ${shown} failed: ${explain(error)}`)
    }
  }

  async #look(): Promise<void> {
    if (this.#savedBytes + (await bytesIn(this.#arriving)) <= MAX_BYTES || !this.areRunning) return
    this.#notes.add(`Downloads may have ${MAX_BYTES} bytes together: what was running was cancelled.`)
    for (const download of this.#running.keys()) void ignoring(download.cancel())
  }
}

async function bytesIn(folder: string): Promise<number> {
  const names = await readdir(folder).catch(() => [])
  const sizes = names.map((name) =>
    stat(join(folder, name)).then(
      ({ size }) => size,
      () => 0,
    ),
  )
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}

/** It may have ended meanwhile, or its page with it. */
function ignoring(promise: Promise<unknown>): Promise<unknown> {
  return promise.catch(() => undefined)
}
