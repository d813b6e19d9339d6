import { Type } from 'typebox'

/** Who asked what of a job, and what became of it (`job/request.ts`). */
const Request = Type.Object(
  {
    number: Type.Integer({ description: 'from 1 within a job; where some are missing, more came than are kept' }),
    kind: Type.Enum(['cancel', 'stop', 'patch', 'delete']),
    by: Type.String({ description: 'the authenticated subject, else the address' }),
    at: Type.String({ format: 'date-time' }),
    reason: Type.String(),
    outcome: Type.String({
      description: 'accepted, ended, remembered, changed, deleted, or the code of the error that it was refused with',
    }),
    group: Type.Optional(Type.String({ description: 'it was asked of every job with this group' })),
    change: Type.Optional(
      Type.Object(
        { onDisconnect: Type.Optional(Type.String()), disconnectGraceMs: Type.Optional(Type.Integer()) },
        { description: 'what a patch was to change' },
      ),
    ),
  },
  { title: 'Request' },
)

export const RequestPage = Type.Object({
  requests: Type.Array(Request),
  nextAfter: Type.Union([Type.Integer(), Type.Null()], { description: 'after of the next page; null on the last' }),
})
