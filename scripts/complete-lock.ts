/**
 * Adds to package-lock.json the optional packages of other platforms that the registry in use did not serve.
 *
 * A registry mirror may hold a tool's binaries for some platforms only. `npm install` then leaves the others out of the lock
 * file without a word, and `npm ci` refuses that file as out of sync. Run after every `npm install` that changes dependencies:
 * `node scripts/complete-lock.ts`. It changes nothing where nothing is missing.
 */
import { readFileSync, writeFileSync } from 'node:fs'

interface LockedPackage {
  version?: string
  dev?: boolean
  optional?: boolean
  os?: string[]
  cpu?: string[]
  optionalDependencies?: Record<string, string>
}

const SYSTEMS = ['android', 'darwin', 'freebsd', 'linux', 'openharmony', 'win32']
const PROCESSORS = ['arm64', 'arm', 'x64', 'ia32', 'ppc64', 'riscv64', 's390x']
const path = new URL('../package-lock.json', import.meta.url)
const lock: { packages: Record<string, LockedPackage> } = JSON.parse(readFileSync(path, 'utf8'))
let added = 0
for (const owner of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(owner.optionalDependencies ?? {})) {
    const key = `node_modules/${name}`
    if (lock.packages[key] !== undefined) continue
    const words = name.split(/[/-]/)
    const os = SYSTEMS.filter((system) => words.includes(system))
    const cpu = PROCESSORS.filter((processor) => words.includes(processor)).slice(0, 1)
    if (os.length === 0 || cpu.length === 0)
      throw new Error(`${name} is missing from the lock file and its name tells no platform`)
    lock.packages[key] = { version, cpu, ...(owner.dev ? { dev: true } : {}), optional: true, os }
    added += 1
  }
}
const sorted = Object.fromEntries(Object.entries(lock.packages).toSorted(([a], [b]) => (a < b ? -1 : 1)))
if (added > 0) writeFileSync(path, `${JSON.stringify({ ...lock, packages: sorted }, null, 2)}\n`)
process.stdout.write(`${added} packages added to the lock file\n`)
