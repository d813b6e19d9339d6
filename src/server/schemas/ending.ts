import { Type } from 'typebox'
import { MAX_REASON_LENGTH } from '../../job/cancellation.ts'

/** The body of a cancel or a stop; an absent one is `{}`. */
export const EndBody = Type.Object(
  {
    reason: Type.Optional(
      Type.String({ maxLength: MAX_REASON_LENGTH, description: 'for whoever reads the job later' }),
    ),
    ifUnknown: Type.Optional(
      Type.Union([Type.Literal('reject'), Type.Literal('remember')], {
        description: 'remember: also for a job that starts later; left out: reject',
      }),
    ),
  },
  {
    additionalProperties: false,
    'x-examples': {
      known: { summary: 'With a reason for people', value: { reason: 'no longer needed' } },
      early: { summary: 'Also where it has not been started yet', value: { ifUnknown: 'remember' } },
    },
  },
)

export const Remembered = Type.Object(
  { id: Type.String(), remembered: Type.Literal(true), kind: Type.String(), expiresAt: Type.String() },
  { title: 'Remembered' },
)

export const GroupEnded = Type.Object(
  {
    accepted: Type.Integer({ description: 'members that were asked and have not ended' }),
    ended: Type.Integer({ description: 'members that have' }),
    remembered: Type.Optional(Type.Literal(true)),
    kind: Type.Optional(Type.String()),
    expiresAt: Type.Optional(Type.String()),
  },
  { title: 'GroupEnded' },
)
