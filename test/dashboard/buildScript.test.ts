import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { temporaryFolder } from '../world.ts'

const SCRIPT = join(import.meta.dirname, '..', '..', 'scripts', 'dashboard')
const run = promisify(execFile)

/** Counts the builds, and makes what Vite makes. */
const NODE = `#!/bin/sh
[ "$1" = --version ] && exit 0
while [ "$1" != --outDir ]; do shift; done
root=$(dirname "$0")/..
echo built >> "$root/builds.log"
sleep 0.2
[ -e "$root/broken" ] && { echo "the source is broken"; exit 1; }
mkdir -p "$2/assets"
echo page > "$2/index.html"
`

class Project {
  readonly #root: string

  private constructor(root: string) {
    this.#root = root
  }

  static async make(): Promise<Project> {
    const root = await temporaryFolder()
    for (const folder of ['scripts', 'src/dashboard', 'src/client', 'src/job']) {
      await mkdir(join(root, folder), { recursive: true })
    }
    await cp(SCRIPT, join(root, 'scripts', 'dashboard'))
    await writeFile(join(root, 'scripts', 'node'), NODE, { mode: 0o755 })
    for (const file of ['scripts/dashboard.config.ts', 'package-lock.json', 'src/dashboard/main.tsx', 'src/job/a.ts']) {
      await writeFile(join(root, file), '')
    }
    return new Project(root)
  }

  path(file: string): string {
    return join(this.#root, file)
  }

  build(): Promise<{ readonly stdout: string; readonly stderr: string }> {
    return run(this.path('scripts/dashboard'))
  }

  async builds(): Promise<number> {
    if (!existsSync(this.path('builds.log'))) return 0
    return (await readFile(this.path('builds.log'), 'utf8')).trimEnd().split('\n').length
  }

  /** As an edit does. */
  async touch(file: string): Promise<void> {
    const later = new Date(Date.now() + 5000)
    await utimes(this.path(file), later, later)
  }
}

describe('scripts/dashboard', () => {
  test('builds once, says so, and then has nothing to do', async () => {
    const project = await Project.make()
    expect((await project.build()).stderr).toBe('tether: building the dashboard, once\n')
    expect((await project.build()).stderr).toBe('')
    expect(await project.builds()).toBe(1)
    expect(await readFile(project.path('build/dashboard/index.html'), 'utf8')).toBe('page\n')
  })

  test.each(['src/dashboard/main.tsx', 'src/job/a.ts', 'package-lock.json', 'scripts/dashboard.config.ts'])(
    'builds again where %s is newer',
    async (file) => {
      const project = await Project.make()
      await project.build()
      await project.touch(file)
      await project.build()
      expect(await project.builds()).toBe(2)
    },
  )

  test('builds once where two start at once', async () => {
    const project = await Project.make()
    await Promise.all([project.build(), project.build(), project.build()])
    expect(await project.builds()).toBe(1)
  })

  test('says what is wrong where it cannot build, and leaves the build that was there', async () => {
    const project = await Project.make()
    await project.build()
    await project.touch('src/dashboard/main.tsx')
    await writeFile(project.path('broken'), '')
    await expect(project.build()).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining('the source is broken'),
    })
    expect(await readFile(project.path('build/dashboard/index.html'), 'utf8')).toBe('page\n')
    expect(await readdir(project.path('build'))).toEqual(['dashboard'])
  })

  test('does nothing where the sources are not there, as in a package that was installed', async () => {
    const project = await Project.make()
    await rm(project.path('src'), { recursive: true })
    await project.build()
    expect(await project.builds()).toBe(0)
  })
})
