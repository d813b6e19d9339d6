import type { Folder, OpenedFile, OpenFolder } from '../../src/resources/files/Folder.ts'

/** What another process does just before an entry is asked for: `times` is how often it was asked for before. */
export type Meddle = (what: 'entry' | 'enter', name: string, times: number) => void

/** A folder in which something happens exactly between two looks at it, as by another process. */
class MeddledFolder implements Folder {
  readonly path: string
  readonly #folder: Folder
  readonly #meddle: (what: 'entry' | 'enter', name: string) => void

  constructor(folder: Folder, meddle: (what: 'entry' | 'enter', name: string) => void) {
    this.#folder = folder
    this.#meddle = meddle
    this.path = folder.path
  }

  entry(name: string): string {
    this.#meddle('entry', name)
    return this.#folder.entry(name)
  }

  async enter(name: string): Promise<Folder> {
    this.#meddle('enter', name)
    return new MeddledFolder(await this.#folder.enter(name), this.#meddle)
  }

  isInside(file?: OpenedFile): Promise<boolean> {
    return this.#folder.isInside(file)
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#folder[Symbol.asyncDispose]()
  }
}

/** Opens folders as `openFolder` does, in all of which `meddle` is called. */
export function meddled(openFolder: OpenFolder, meddle: Meddle): OpenFolder {
  const asked = new Map<string, number>()
  return async (root) =>
    new MeddledFolder(await openFolder(root), (what, name) => {
      const key = `${what} ${name}`
      const times = asked.get(key) ?? 0
      asked.set(key, times + 1)
      meddle(what, name, times)
    })
}
