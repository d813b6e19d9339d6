import type { Static, TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'

const MAX_SHOWN_LENGTH = 200

/**
 * Checks what comes from a process in which nothing is taken for granted. `whose` is for the error of what is no message. Compiled
 * with the first message: most servers never get one.
 */
export function messageParser<S extends TSchema>(schema: S, whose: string): (message: unknown) => Static<S> {
  let validator: Validator | undefined
  return (message) => {
    validator ??= Compile(schema)
    if (validator.Check(message)) return message as Static<S>
    throw new Error(`a message of ${whose} is none: ${JSON.stringify(message).slice(0, MAX_SHOWN_LENGTH)}`)
  }
}
