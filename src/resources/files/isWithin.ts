import { sep } from 'node:path'

/** Whether `path` is `folder` or below it, by their names. Both are absolute and real. */
export function isWithin(folder: string, path: string): boolean {
  return path === folder || path.startsWith(folder.endsWith(sep) ? folder : `${folder}${sep}`)
}
