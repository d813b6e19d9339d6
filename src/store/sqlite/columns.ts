import type { SQLOutputValue } from 'node:sqlite'
import type { JobRef } from '../../job/key.ts'
import { StoreError } from '../JobStore.ts'

/** A row as node:sqlite gives it; undefined where there was none. */
export type Row = Readonly<Record<string, SQLOutputValue>> | undefined

/** @throws {StoreError} where there is no row, or its column holds something else. So do the functions below. */
export function integer(row: Row, column: string): number {
  const value = row?.[column]
  if (typeof value !== 'number') throw malformed(column, 'a number', value)
  return value
}

export function text(row: Row, column: string): string {
  const value = row?.[column]
  if (typeof value !== 'string') throw malformed(column, 'a text', value)
  return value
}

/** The job of a row with its `tenant` and `id`, which were written from a value of this type. */
export function refIn(row: Row): JobRef {
  return { tenant: text(row, 'tenant'), id: text(row, 'id') as JobRef['id'] }
}

/** Undefined where the column is NULL. */
export function optionalText(row: Row, column: string): string | undefined {
  const value = row?.[column]
  if (value === null) return undefined
  if (typeof value !== 'string') throw malformed(column, 'a text or NULL', value)
  return value
}

export function bytes(row: Row, column: string): Uint8Array {
  const value = row?.[column]
  if (!(value instanceof Uint8Array)) throw malformed(column, 'bytes', value)
  return value
}

function malformed(column: string, expected: string, value: unknown): StoreError {
  return new StoreError(`the database is damaged: column ${column} must be ${expected}, got ${typeof value}`)
}
