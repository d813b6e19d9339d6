import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { describeSchemaErrors } from '../execution/schemaErrors.ts'

/**
 * Checks with TypeBox and says in one sentence what is wrong. Nothing is converted: the type provider's own compiler turns texts
 * of queries and parameters into numbers where a schema asks for them, and takes `0x10`, `1.5` and an empty text for integers.
 * Here queries are texts with a pattern.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema }) => {
  const validator = Compile(schema)
  return (value: unknown) => {
    if (validator.Check(value)) return { value }
    // A plain error: Fastify puts a status on it, and its codes are not ours (see `sendError`).
    return { error: new Error(describeSchemaErrors(validator.Errors(value), value, '')) }
  }
}
