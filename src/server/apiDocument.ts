import { STATUS_CODES } from 'node:http'
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import { ERROR_STATUS } from '../job/error.ts'

/** What `@fastify/swagger` makes of the routes begins with this. `prefix` is where they stand. */
export function describeApi(prefix: string): NonNullable<FastifyDynamicSwaggerOptions['openapi']> {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tether',
      version: '0.1.0',
      description: [
        'A streaming task server: jobs are started over HTTP and watched over server-sent events, and when nobody wants one any',
        'more, its work really stops. Bodies are JSON, an unknown field is 400, and every refusal is an Error with a `code` to go by.',
      ].join(' '),
      license: { name: 'MIT', identifier: 'MIT' },
    },
    tags: [
      { name: 'start', description: 'Start a job, and hold it or not' },
      {
        name: 'events',
        description: 'Streams of server-sent events: each frame is `id:`, `event:` and one line `data:` of JSON',
      },
      { name: 'end', description: 'Cancel is hard, stop is gentle' },
      { name: 'jobs', description: 'What is known of jobs' },
      { name: 'files', description: 'What a job left in its workspace' },
      { name: 'tasks', description: 'What may be started' },
      { name: 'health', description: 'For load balancers' },
    ],
    components: {
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'needed where the server has API_TOKEN' },
        session: {
          type: 'apiKey',
          in: 'cookie',
          name: 'tether_session',
          description:
            'what a browser has after it logged in at /login; over TLS its name begins with __Host- or __Secure-',
        },
      },
    },
    servers: [{ url: prefix === '' ? '/' : prefix }],
    security: [{ token: [] }, { session: [] }, {}],
  }
}

const ERROR = {
  type: 'object',
  description: 'How every refusal is answered. `code` is API, `message` is prose.',
  required: ['statusCode', 'code', 'error', 'message'],
  properties: {
    statusCode: { type: 'integer', enum: [...new Set(Object.values(ERROR_STATUS))] },
    code: { type: 'string', enum: Object.keys(ERROR_STATUS) },
    error: { type: 'string', examples: [STATUS_CODES[404]] },
    message: { type: 'string' },
  },
}

const ANY_REFUSAL = {
  description: 'any other refusal',
  content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
}

/** Values, in which what looks like a schema is none. */
const VALUES = ['example', 'examples', 'default', 'const', 'enum', 'value']

type Members = Readonly<Record<string, unknown>>

/**
 * Finishes the document: schemas that have a title stand once, under it, and are referred to; every operation has an id, and says
 * how it refuses.
 */
export function finishDocument(document: Members): Members {
  const schemas = new Map<string, unknown>([['Error', ERROR]])
  const paths = Object.fromEntries(
    Object.entries(membersOf(document['paths'])).map(([path, item]) => [path, finishPath(path, membersOf(item))]),
  )
  const finished = { ...document, paths: referring(paths, schemas) }
  const components = { ...membersOf(document['components']), schemas: Object.fromEntries(schemas) }
  return { ...finished, components }
}

function finishPath(path: string, item: Members): Members {
  return Object.fromEntries(
    Object.entries(item).map(([method, operation]) => {
      const members = membersOf(operation)
      const responses = { ...membersOf(members['responses']), default: ANY_REFUSAL }
      const requestBody = 'requestBody' in members ? { requestBody: finishBody(membersOf(members['requestBody'])) } : {}
      return [method, { operationId: operationIdOf(method, path), ...members, ...requestBody, responses }]
    }),
  )
}

/** A body of which nothing is needed may be left out (protocol, section 3). */
function finishBody(body: Members): Members {
  const { schema } = membersOf(membersOf(body['content'])['application/json'])
  const members = membersOf(schema)
  return { ...body, required: 'required' in members || 'minProperties' in members }
}

/** `POST /jobs/{id}/cancel` is `postJobsIdCancel`. */
function operationIdOf(method: string, path: string): string {
  const words = path
    .replaceAll('*', 'path')
    .split(/[^A-Za-z]+/)
    .filter((word) => word !== '')
  return method + words.map((word) => word[0]?.toUpperCase() + word.slice(1)).join('')
}

function referring(value: unknown, schemas: Map<string, unknown>): unknown {
  if (Array.isArray(value)) return value.map((one) => referring(one, schemas))
  if (typeof value !== 'object' || value === null) return value
  const copy = Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, VALUES.includes(name) ? member : referring(member, schemas)]),
  )
  const title = copy['title']
  if (typeof title !== 'string' || !('type' in copy || 'anyOf' in copy)) return copy
  const schema = 'anyOf' in copy ? distinguished(copy) : copy
  const known = schemas.get(title)
  if (known === undefined) schemas.set(title, schema)
  // Two that bear one name would be one to whoever makes code of it.
  else if (JSON.stringify(known) !== JSON.stringify(schema)) throw new Error(`there are two schemas called ${title}`)
  return { $ref: `#/components/schemas/${title}` }
}

/** A union whose members are named for their `type`, as events are. */
function distinguished({ anyOf, ...rest }: Members): Members {
  const refs = Array.isArray(anyOf) ? anyOf.map((member) => String(membersOf(member)['$ref'])) : []
  const mapping = Object.fromEntries(refs.map((ref) => [ref.slice('#/components/schemas/'.length), ref]))
  return { ...rest, oneOf: anyOf, discriminator: { propertyName: 'type', mapping } }
}

function membersOf(value: unknown): Members {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}
