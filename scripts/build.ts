import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, globSync, mkdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'

// Makes `dist`, which is what the package has beside the built dashboard: JavaScript with its types, and whatever else stands in
// `src`. Node strips no types below node_modules, so the sources themselves would not run there. `npm pack` runs this.

const ROOT = join(import.meta.dirname, '..')
const [DIST, SRC] = [join(ROOT, 'dist'), join(ROOT, 'src')]

/** What is run as a program. */
const PROGRAMS = ['main.js', 'client/cli/bin.js']

rmSync(DIST, { recursive: true, force: true })
const { status } = spawnSync(join(ROOT, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json'], {
  cwd: ROOT,
  stdio: 'inherit',
})
if (status !== 0) throw new Error(`tsc ended with ${status}`)
for (const file of globSync('**/*.*', { cwd: SRC, exclude: ['**/*.ts', 'dashboard/**'] })) {
  mkdirSync(dirname(join(DIST, file)), { recursive: true })
  copyFileSync(join(SRC, file), join(DIST, file))
}
for (const program of PROGRAMS) chmodSync(join(DIST, program), 0o755)
