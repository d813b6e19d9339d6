import { readdir, readFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'

/** One file of the dashboard, as it goes out. */
export interface PageFile {
  readonly type: string
  readonly body: Buffer
  readonly gzipped: Buffer
}

/** What Vite made of `src/dashboard`, in memory. */
export interface Pages {
  readonly index: PageFile
  readonly icon: PageFile
  /** By name. Each name has a hash of what the file holds, so what it names never changes. */
  readonly assets: ReadonlyMap<string, PageFile>
}

const BUILT = join(import.meta.dirname, '..', '..', 'build', 'dashboard')

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml; charset=utf-8',
}

const compress = promisify(gzip)

/** Reads the dashboard when it is first asked for, and again until it has been built. */
export class BuiltPages {
  readonly #folder: string
  #pages: Promise<Pages | undefined> | undefined

  constructor(folder = BUILT) {
    this.#folder = folder
  }

  /** Undefined where there is no build. */
  async pages(): Promise<Pages | undefined> {
    this.#pages ??= readPages(this.#folder)
    const pages = await this.#pages
    if (pages === undefined) this.#pages = undefined
    return pages
  }
}

async function readPages(folder: string): Promise<Pages | undefined> {
  try {
    const names = await readdir(join(folder, 'assets'))
    const [index, icon, ...assets] = await Promise.all(
      ['index.html', 'icon.svg', ...names.map((name) => join('assets', name))].map((name) =>
        readPageFile(join(folder, name)),
      ),
    )
    if (index === undefined || icon === undefined) return undefined
    return {
      index,
      icon,
      assets: new Map(names.flatMap((name, at) => (assets[at] === undefined ? [] : [[name, assets[at]]]))),
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

async function readPageFile(path: string): Promise<PageFile> {
  const body = await readFile(path)
  return { type: TYPES[extname(path)] ?? 'application/octet-stream', body, gzipped: await compress(body, { level: 9 }) }
}
