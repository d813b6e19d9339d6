import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { treeOf } from '../../src/resources/processes/GroupContainment.ts'
import { MARKER } from '../../src/resources/processes/marker.ts'
import { eventually } from '../world.ts'
import { PATH, running, uniqueSleep } from './world.ts'

test('what a leader left that was gone before it was looked at is found, also outside of its group', async () => {
  const sleep = uniqueSleep()
  const marker = `test:job/gone-${process.pid}`
  const leader = spawn('sh', ['-c', `${sleep} & setsid ${sleep} & exit`], {
    detached: true,
    stdio: 'ignore',
    env: { PATH, [MARKER]: marker },
  })
  await once(leader, 'exit')
  await eventually('both run', () => running(sleep).length === 2)
  const tree = treeOf(leader.pid ?? 0, marker)
  expect(await tree.members(1000)).toHaveLength(2)
  const found = new Set<number>()
  await eventually('nothing is left', () => tree.strike((pid) => found.add(pid)))
  expect(found.size).toBe(2)
  expect(running(sleep)).toEqual([])
})
