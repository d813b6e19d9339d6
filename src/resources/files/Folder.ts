import type { FileHandle } from 'node:fs/promises'

/** A file that was opened as an entry of a folder. */
export interface OpenedFile {
  readonly name: string
  readonly handle: FileHandle
}

/** A folder of the workspace, open: what is done through it is done to this folder, or is found out. */
export interface Folder extends AsyncDisposable {
  /** Where the folder itself is reached. */
  readonly path: string
  /** Where an entry is reached. What is done to it must not follow links. */
  entry(name: string): string
  /** Opens a folder in this one. Rejects with the system's error, also where there is a link of that name. */
  enter(name: string): Promise<Folder>
  /** Whether the folder, or a file that was opened in it, is inside the workspace now, wherever it was moved meanwhile. */
  isInside(file?: OpenedFile): Promise<boolean>
}

/** Opens the folder at `root`, in which the folders opened from it shall be. Rejects with the system's error, also for a link. */
export type OpenFolder = (root: string) => Promise<Folder>
