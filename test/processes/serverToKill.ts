import { probeContainment } from '../../src/resources/processes/probeContainment.ts'

// A server of its own process, that a test kills: `node serverToKill.ts LEVEL LINE`. Says the leader's pid once it runs.
const [level, line = ''] = process.argv.slice(2)
if (level !== 'cgroup' && level !== 'pidns' && level !== 'group') throw new Error(`level must be one, got ${level}`)
const { containment } = await probeContainment(level)
const started = await containment.spawn({
  argv: ['sh', '-c', line],
  cwd: '/',
  env: { PATH: '/usr/bin:/bin' },
  stdin: false,
  owner: 'job',
})
started.stdout.resume()
started.stderr.resume()
process.stdout.write(`${started.pid}\n`)
