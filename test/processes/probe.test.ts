import { describe, expect, test } from 'vitest'
import { findCgroupBases } from '../../src/resources/processes/cgroupMount.ts'
import { probeContainment } from '../../src/resources/processes/probeContainment.ts'
import { availableLevels } from './world.ts'

describe('the probe', () => {
  test('picks the best level that there is, and says why not a better one', async () => {
    const levels = await availableLevels()
    const { containment, tried } = await probeContainment('auto')
    expect(containment.level).toBe(levels[0]?.level)
    expect(tried.map(({ level }) => level)).toEqual(['cgroup', 'pidns', 'group'].slice(0, 3 - levels.length))
    for (const { reason } of tried) expect(reason).not.toBe('')
  })

  test('claims completeness for a control group and a pid namespace only', async () => {
    for (const { level, complete } of await availableLevels()) expect(complete).toBe(level !== 'group')
  })
})

const V1 = '32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu'

describe('the folders for control groups', () => {
  test('on a machine with both versions are those of the mount named unified', () => {
    const mounts = `${V1}\n38 31 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n`
    expect(findCgroupBases(mounts, '4:memory:/x\n0::/\n')).toEqual(['/sys/fs/cgroup/unified'])
    expect(findCgroupBases(mounts, '4:memory:/x\n0::/user.slice/me\n')).toEqual([
      '/sys/fs/cgroup/unified/user.slice/me',
      '/sys/fs/cgroup/unified',
    ])
  })

  test('below a mount of a part of the tree are taken from that part', () => {
    const mounts = '38 31 0:31 /docker/a /sys/fs/cg\\040roup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate'
    expect(findCgroupBases(mounts, '0::/docker/a/b')).toEqual(['/sys/fs/cg roup/b', '/sys/fs/cg roup'])
    expect(findCgroupBases(mounts, '0::/docker/a')).toEqual(['/sys/fs/cg roup'])
    expect(findCgroupBases(mounts, '0::/elsewhere')).toEqual(['/sys/fs/cg roup'])
    expect(findCgroupBases(mounts, '0::/../elsewhere')).toEqual(['/sys/fs/cg roup'])
  })

  test('are none where version 2 is not mounted, or only for reading', () => {
    expect(() => findCgroupBases(V1, '0::/')).toThrow('no cgroup v2 is mounted')
    expect(() => findCgroupBases('38 31 0:31 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw', '0::/')).toThrow(
      'read-only',
    )
  })
})
