import type { Usage } from '../../job/receipt.ts'

/** Such as `12,345 tokens in, 678 out`; empty where nothing is known. */
export function usageText({ inputTokens, outputTokens, totalTokens }: Usage): string {
  if (inputTokens === undefined && outputTokens === undefined) {
    return totalTokens === undefined ? '' : countText(totalTokens, 'token')
  }
  if (inputTokens === undefined) return `${countText(outputTokens ?? 0, 'token')} out`
  const out = outputTokens === undefined ? '' : `, ${numberText(outputTokens)} out`
  return `${countText(inputTokens, 'token')} in${out}`
}

function numberText(number: number): string {
  return number.toLocaleString('en-US')
}

/** Such as `1 tool`, `2 tools`. */
export function countText(number: number, one: string, many = `${one}s`): string {
  return `${numberText(number)} ${number === 1 ? one : many}`
}
