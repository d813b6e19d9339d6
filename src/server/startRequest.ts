import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { TetherError } from '../job/error.ts'
import { parseGroupId, parseJobId } from '../job/id.ts'
import { canonicalJson, type Json } from '../job/json.ts'
import type { JobPolicy, OnDisconnect } from '../job/policy.ts'
import type { Holder } from '../jobs/Holder.ts'
import type { JobSpec } from '../jobs/JobSpec.ts'
import type { StartRequest } from '../jobs/JobStarter.ts'
import { carrierOf } from '../tracing/traces.ts'
import type { StartBody } from './schemas/startJob.ts'

const MAX_METADATA_BYTES = 16 * 1024

/**
 * What `JobManager.start` is asked for, from a body that its schema has accepted. `defaultPolicy` is the route's.
 * @throws {TetherError} `TETHER_INVALID_REQUEST`, `TETHER_INVALID_JOB_ID`
 */
export function startRequestOf(
  request: FastifyRequest,
  body: StartBody,
  defaultPolicy: OnDisconnect,
  holder?: Holder,
): StartRequest {
  const idempotencyKey = idempotencyKeyOf(request)
  const { caller, trace: context } = request.tether
  const trace = context && carrierOf(context)
  return {
    spec: specOf(body, defaultPolicy),
    fingerprint: fingerprintOf(body),
    caller,
    ...(trace === undefined ? {} : { trace }),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    ...(holder === undefined ? {} : { holder }),
  }
}

function specOf(body: StartBody, defaultPolicy: OnDisconnect): JobSpec {
  const { task, input = {}, jobId, group = '', metadata = {}, ...policy } = body
  assertMetadata(metadata)
  return {
    task,
    input,
    ...(jobId === undefined ? {} : { jobId: parseJobId(jobId) }),
    ...(group === '' ? {} : { group: parseGroupId(group) }),
    policy: { onDisconnect: defaultPolicy, ...policy } satisfies Partial<JobPolicy>,
    metadata,
  }
}

function assertMetadata(metadata: object): void {
  const bytes = Buffer.byteLength(JSON.stringify(metadata))
  if (bytes <= MAX_METADATA_BYTES) return
  throw new TetherError(
    'TETHER_INVALID_REQUEST',
    `metadata must be at most ${MAX_METADATA_BYTES} bytes as JSON, got ${bytes}`,
  )
}

/** Two bodies are the same start where these are equal: after parsing, whatever the order of keys, without defaults. */
function fingerprintOf(body: Json): string {
  return createHash('sha256').update(canonicalJson(body)).digest('hex')
}

function idempotencyKeyOf(request: FastifyRequest): string | undefined {
  const key = request.headers['idempotency-key']
  if (key === undefined) return undefined
  if (typeof key === 'string' && /^[\x21-\x7e]{1,200}$/.test(key)) return key
  throw new TetherError(
    'TETHER_INVALID_REQUEST',
    `idempotency-key must be 1 to 200 visible ASCII characters, got ${JSON.stringify(String(key).slice(0, 80))}`,
  )
}
