import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import { TetherError } from '../job/error.ts'
import { describeSchemaErrors } from '../execution/schemaErrors.ts'

/**
 * Checks with TypeBox and says in one sentence what is wrong. Nothing is coerced: the compiler converts queries and parameters
 * where a schema asks for numbers, and takes `0x10`, `1.5` and an empty text for integers, so here queries are texts with a
 * pattern and bodies are never converted at all.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = (route) => {
  const validate = TypeBoxValidatorCompiler(route)
  return (value: unknown) => {
    const outcome: unknown = validate(value)
    if (typeof outcome !== 'object' || outcome === null || !('error' in outcome) || !Array.isArray(outcome.error)) {
      return outcome
    }
    return { error: new TetherError('TETHER_INVALID_REQUEST', describeSchemaErrors(outcome.error, value, '')) }
  }
}
