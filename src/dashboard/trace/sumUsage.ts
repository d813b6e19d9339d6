import type { Usage } from '../../job/receipt.ts'

/** What is known of only one of the two counts as that. */
export function sumUsage(a: Usage, b: Usage): Usage {
  const sum = (of: keyof Usage): Usage => {
    const [first, second] = [a[of], b[of]]
    return first === undefined && second === undefined ? {} : { [of]: (first ?? 0) + (second ?? 0) }
  }
  return { ...sum('inputTokens'), ...sum('outputTokens'), ...sum('totalTokens') }
}

export function isUsed({ inputTokens, outputTokens, totalTokens }: Usage): boolean {
  return (inputTokens ?? outputTokens ?? totalTokens) !== undefined
}
