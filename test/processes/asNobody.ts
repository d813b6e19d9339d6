import { probeContainment } from '../../src/resources/processes/probeContainment.ts'
import { availableLevels, run, running, uniqueSleep, until } from './world.ts'

// What an ordinary user gets: runs under another user id, and prints what it saw as one JSON text.
const KILL = { graceMs: 0, deadlineMs: 5000 }
const { containment: best, tried } = await probeContainment('auto')
const seen = []
for (const containment of await availableLevels()) {
  const plain = await run(containment, 'id -u; exit 5')
  const status = await plain.process.exited
  await plain.process.end(KILL)

  const sleeping = await run(containment, 'exec sleep 1000')
  const honoured = await sleeping.process.end({ graceMs: 5000, deadlineMs: 5000 })

  const sleep = uniqueSleep()
  const escaped = await run(
    containment,
    `(setsid sh -c '(${sleep} &) &' &); trap "" TERM; while :; do sleep 0.01; done`,
  )
  await until('it runs', () => running(sleep).length === 1)
  const killed = await escaped.process.end({ graceMs: 20, deadlineMs: 5000 })
  seen.push({
    level: containment.level,
    status,
    stdout: await plain.stdout.whole,
    honoured: { killed: honoured.killedAtMs !== null, processes: honoured.processes, survivors: honoured.survivors },
    escaped: { survivors: killed.survivors, left: running(sleep).length },
  })
}
process.stdout.write(JSON.stringify({ best: best.level, tried, seen }))
