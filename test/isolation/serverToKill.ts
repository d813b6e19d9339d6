import { pino } from 'pino'
import { readConfig } from '../../src/config.ts'
import { WarmSpare } from '../../src/execution/isolation/WarmSpare.ts'
import { GroupContainment } from '../../src/resources/processes/GroupContainment.ts'
import { openTether } from '../../src/tether.ts'
import * as fixtures from './fixtures/tasks.ts'

// A server of its own process, that a test kills: `node serverToKill.ts LEVEL DATA_DIR`. Says so once a job spins and a spare
// waits. The level `none` is a spare alone, which nothing but the end of its channel tells of the server's end.
const [level = '', folder = ''] = process.argv.slice(2)

if (level === 'none') await openSpare()
else await openServer()
process.stdout.write('ready\n')
setInterval(() => undefined, 1000)

async function openSpare(): Promise<void> {
  const spare = new WarmSpare({
    containment: new GroupContainment('none', []),
    commandEnv: { PATH: '/usr/bin:/bin' },
    defaultCwd: folder,
    compileCache: folder,
    onSpareFailed: (error) => {
      throw error
    },
  })
  spare.prepare()
  await spare.warmPid()
}

async function openServer(): Promise<void> {
  const config = readConfig({ PORT: '0', DATA_DIR: folder, CONTAINMENT: level, LOG_LEVEL: 'silent' })
  const logger = pino({ level: 'silent' })
  const tasks = Object.values(fixtures)
  const tether = await openTether({ config, logger, serverEnv: process.env, cwd: folder, tasks })
  await tether.spare.warmPid()
  const caller = { tenant: 'default', subject: 'test' }
  const spec = { task: 'spins', input: null, policy: {}, metadata: {} }
  const { ref } = await tether.jobs.start({ spec, fingerprint: '', caller })
  while ((await tether.jobs.job(ref)).lastSeq < 3) await new Promise((resolve) => setTimeout(resolve, 5))
  for (;;) {
    if ((await tether.spare.warmPid()) !== undefined) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
