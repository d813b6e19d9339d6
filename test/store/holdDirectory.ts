import { writeSync } from 'node:fs'
import { lockDirectory } from '../../src/store/DirectoryLock.ts'

// A process that holds a folder until it is killed: `node holdDirectory.ts DATA_DIR`.
const [, , dataDir = ''] = process.argv
const lock = lockDirectory(dataDir, { pid: process.pid })
lock.announce('http://127.0.0.1:3000')
writeSync(1, 'held\n')
setInterval(() => lock.announce('http://127.0.0.1:3000'), 60_000)
