import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** The dashboard's files, in memory from the start of the server on. */
export interface Pages {
  readonly index: string
  readonly script: string
  readonly style: string
  readonly icon: string
}

const FOLDER = join(import.meta.dirname, '..', 'dashboard')

export async function readPages(): Promise<Pages> {
  const [index, script, style, icon] = await Promise.all(
    ['index.html', 'app.js', 'style.css', 'icon.svg'].map((name) => readFile(join(FOLDER, name), 'utf8')),
  )
  if (index === undefined || script === undefined || style === undefined || icon === undefined) {
    throw new Error('a page has no text')
  }
  return { index, script, style, icon }
}
