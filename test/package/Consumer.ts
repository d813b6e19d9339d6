import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const ROOT = join(import.meta.dirname, '../..')
const BIN = join(ROOT, 'node_modules/.bin')
/** The other version that the package is for; the first is the project's own. */
const NODE_24 = '24.21.0'

/** A fresh folder into which the package was installed, and what it depends on beside it: nothing else is to be had there. */
export class Consumer {
  readonly folder: string

  private constructor(folder: string) {
    this.folder = folder
  }

  /** Packs the package, and installs what came of it. What it depends on is linked, which is faster than fetching it once more. */
  static async install(): Promise<Consumer> {
    const folder = await mkdtemp(join(tmpdir(), 'tether-consumer-'))
    const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', folder], {
      cwd: ROOT,
      env: { ...process.env, PATH: `${BIN}:${process.env['PATH']}` },
    })
    const own = join(folder, 'node_modules/tether')
    await mkdir(own, { recursive: true })
    await run('tar', ['-xzf', join(folder, stdout.trim().split('\n').at(-1) ?? ''), '-C', own, '--strip-components=1'])
    const { dependencies } = Object(JSON.parse(await readFile(join(own, 'package.json'), 'utf8')))
    for (const name of [...Object.keys(dependencies), '@types/node']) {
      const link = join(folder, 'node_modules', name)
      await mkdir(dirname(link), { recursive: true })
      await symlink(join(ROOT, 'node_modules', name), link)
    }
    await cp(join(import.meta.dirname, 'consumer'), folder, { recursive: true })
    return new Consumer(folder)
  }

  /** What `node` prints of a program in the folder. */
  async run(node: string, ...args: readonly string[]): Promise<string> {
    const { stdout } = await run(node, args, { cwd: this.folder })
    return stdout
  }

  /** Type-checks one of its files, the types of all that it imports too. Gives what there is to complain of. */
  async check(file: string, ...options: readonly string[]): Promise<string> {
    const strict = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', 'false', '--ignoreConfig']
    const checked = run(join(BIN, 'tsc'), [...strict, ...options, file], { cwd: this.folder })
    return await checked.then(
      () => '',
      ({ stdout }) => String(stdout),
    )
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true })
  }
}

/** The programs of both versions. The other one is fetched once, and kept where `npm ci` throws it away. */
export async function nodes(): Promise<readonly string[]> {
  const cache = join(ROOT, 'node_modules/.cache', `node-${NODE_24}`)
  const other = join(cache, 'node_modules/.bin/node')
  if (!existsSync(other)) {
    await mkdir(cache, { recursive: true })
    await run('npm', ['install', '--prefix', cache, '--no-audit', '--no-fund', `node@${NODE_24}`], { cwd: cache })
  }
  return [process.execPath, other]
}
