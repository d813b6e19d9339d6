import type { TLocalizedValidationError } from 'typebox/error'

/** What validators report: the shape that TypeBox and Ajv share. */
type ValidationError = Pick<TLocalizedValidationError, 'keyword' | 'schemaPath' | 'instancePath' | 'params' | 'message'>

const MAX_SHOWN_LENGTH = 80

/**
 * One sentence that names the field, what was expected and what was there, from a validator's errors on `value`.
 * `noun` stands before the path: `input` gives `input.count must be >= 0, got -1`.
 */
export function describeSchemaErrors(errors: readonly ValidationError[], value: unknown, noun: string): string {
  const branch = nearestBranch(errors)
  if (branch !== undefined) return describeSchemaErrors(branch, value, noun)
  const unknownField = errors.find((error) => error.keyword === 'additionalProperties')
  const error = unknownField ?? errors[0]
  if (error === undefined) return `${noun} is not valid`
  const field = nameOf(noun, error.instancePath)
  const params: Record<string, unknown> = { ...error.params }
  switch (error.keyword) {
    case 'additionalProperties': {
      const names = strings(params['additionalProperties'])
      return `${names.map((name) => nameOf(noun, `${error.instancePath}/${name}`)).join(', ')} ${names.length === 1 ? 'is not a known field' : 'are not known fields'}`
    }
    case 'required': {
      const missing = strings(params['requiredProperties'])
      return `${missing.map((name) => nameOf(noun, `${error.instancePath}/${name}`)).join(', ')} ${missing.length === 1 ? 'is' : 'are'} missing`
    }
    case 'const':
    case 'enum':
    case 'anyOf': {
      const allowed = errors
        .filter((other) => other.keyword === 'const' && other.instancePath === error.instancePath)
        .map((other) => JSON.stringify('allowedValue' in other.params ? other.params.allowedValue : undefined))
      if (allowed.length > 0)
        return `${field} must be one of ${allowed.join(', ')}, got ${shown(value, error.instancePath)}`
      return `${field} ${error.message}, got ${shown(value, error.instancePath)}`
    }
    default:
      return `${field} ${error.message}, got ${shown(value, error.instancePath)}`
  }
}

const BRANCH = /^(.*?)\/anyOf\/(\d+)(.*)$/

/**
 * Where the value had to match one of several forms: the errors of the form that it comes nearest to. Undefined where there are
 * no forms, or where they are plain values, which are better listed.
 */
function nearestBranch(errors: readonly ValidationError[]): readonly ValidationError[] | undefined {
  const branches = new Map<string, ValidationError[]>()
  for (const error of errors) {
    const [, prefix, index, rest] = BRANCH.exec(error.schemaPath) ?? []
    if (prefix === undefined || index === undefined) continue
    const name = `${prefix}/${index}`
    const members = branches.get(name) ?? []
    members.push({ ...error, schemaPath: `#${rest ?? ''}` })
    branches.set(name, members)
  }
  const all = [...branches.values()]
  if (all.every((members) => members.every((error) => error.keyword === 'const'))) return undefined
  return all.toSorted((a, b) => a.length - b.length)[0]
}

function nameOf(noun: string, pointer: string): string {
  const path = pointer.split('/').slice(1).map(unescape)
  const dotted = path.map((part) => (/^\d+$/.test(part) ? `[${part}]` : `.${part}`)).join('')
  return noun === '' ? dotted.replace(/^\./, '') || 'the body' : `${noun}${dotted}`
}

function shown(value: unknown, pointer: string): string {
  let current = value
  for (const part of pointer.split('/').slice(1).map(unescape)) {
    if (typeof current !== 'object' || current === null) return 'nothing'
    current = Object.entries(current).find(([key]) => key === part)?.[1]
  }
  const text = JSON.stringify(current) ?? 'nothing'
  return text.length > MAX_SHOWN_LENGTH ? `${text.slice(0, MAX_SHOWN_LENGTH)}…` : text
}

/** JSON Pointer's escapes (RFC 6901 section 3). */
function unescape(part: string): string {
  return part.replaceAll('~1', '/').replaceAll('~0', '~')
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : []
}
