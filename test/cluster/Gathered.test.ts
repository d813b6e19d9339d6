import { expect, test } from 'vitest'
import { Gathered } from '../../src/cluster/Gathered.ts'

interface Round {
  readonly items: readonly number[]
  readonly answer: PromiseWithResolvers<readonly string[]>
}

function gathered(maxAtOnce: number): { readonly rounds: Round[]; readonly call: (item: number) => Promise<string> } {
  const rounds: Round[] = []
  const calls = new Gathered((items: readonly number[]) => {
    const answer = Promise.withResolvers<readonly string[]>()
    rounds.push({ items, answer })
    return answer.promise
  }, maxAtOnce)
  return { rounds, call: (item) => calls.call(item) }
}

test('a call that comes alone goes at once, and those that come meanwhile go together, each with its own answer', async () => {
  const { rounds, call } = gathered(2)
  const answers = [1, 2, 3, 4].map(call)
  expect(rounds.map(({ items }) => items)).toEqual([[1]])
  rounds[0]?.answer.resolve(['one'])
  await answers[0]
  expect(rounds.map(({ items }) => items)).toEqual([[1], [2, 3]])
  rounds[1]?.answer.resolve(['two', 'three'])
  await answers[1]
  rounds[2]?.answer.resolve(['four'])
  expect(await Promise.all(answers)).toEqual(['one', 'two', 'three', 'four'])
  expect(rounds.map(({ items }) => items)).toEqual([[1], [2, 3], [4]])
})

test('a round that fails fails for all who are in it, and for nobody else', async () => {
  const { rounds, call } = gathered(9)
  const settled = Promise.allSettled([1, 2, 3].map(call))
  rounds[0]?.answer.resolve(['one'])
  await expect.poll(() => rounds.length).toBe(2)
  rounds[1]?.answer.reject(new Error('away'))
  expect(await settled).toMatchObject([
    { value: 'one' },
    { reason: { message: 'away' } },
    { reason: { message: 'away' } },
  ])
  const later = call(4)
  rounds[2]?.answer.resolve(['four'])
  expect(await later).toBe('four')
})
