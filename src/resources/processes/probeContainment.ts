import { existsSync } from 'node:fs'
import { messageOf } from '../../job/messageOf.ts'
import type { ContainmentLevel } from '../../job/receipt.ts'
import { unreachable } from '../../job/unreachable.ts'
import { CgroupContainment } from './CgroupContainment.ts'
import type { ContainedProcess, Containment } from './Containment.ts'
import { findCgroupBases } from './cgroupMount.ts'
import { GroupContainment } from './GroupContainment.ts'
import { instanceName } from './instance.ts'
import { PidNamespaceContainment } from './PidNamespaceContainment.ts'
import { DEFAULT_PATH } from './resolveProgram.ts'
import { dieWithParent, findTool, requireTool } from './tools.ts'

/** Best first. */
const LEVELS = ['cgroup', 'pidns', 'group'] as const satisfies readonly ContainmentLevel[]

export interface Probe {
  readonly containment: Containment
  /** The folder that has the control groups of this server, where the level is that. */
  readonly cgroupPath: string | undefined
  /** The better levels that this machine does not give, and why. */
  readonly tried: readonly { readonly level: ContainmentLevel; readonly reason: string }[]
}

/**
 * The best level that works here, found out by using it: with `auto` the first of cgroup, pidns, group that holds and ends a
 * small tree. A level that is asked for by name is that one or an error.
 *
 * @throws {Error} `CONTAINMENT=…` with the reason, where the level asked for is not to be had.
 */
export async function probeContainment(setting: 'auto' | ContainmentLevel): Promise<Probe> {
  const tried: { level: ContainmentLevel; reason: string }[] = []
  for (const level of setting === 'auto' ? LEVELS : [setting]) {
    try {
      const containment = await build(level)
      const cgroupPath = containment instanceof CgroupContainment ? containment.parentPath : undefined
      return { containment, cgroupPath, tried }
    } catch (error) {
      tried.push({ level, reason: messageOf(error) })
    }
  }
  const reasons = tried.map(({ level, reason }) => `${level}: ${reason}`).join('; ')
  throw new Error(`CONTAINMENT=${setting} is not to be had on this machine (${reasons})`)
}

/**
 * What a contained process holds its own children with: groups, inside of whatever holds it itself. `within` is its own marker,
 * the value of `TETHER_JOB` in its environment.
 */
export async function containmentWithin(within: string | undefined): Promise<Containment> {
  return new GroupContainment(instanceName(), await dieWithParentWhereGiven(), within)
}

async function build(level: ContainmentLevel): Promise<Containment> {
  if (level !== 'group' && process.platform !== 'linux') throw new Error(`needs Linux, got ${process.platform}`)
  switch (level) {
    case 'cgroup':
      return buildCgroup()
    case 'pidns':
      return buildPidNamespace()
    case 'group':
      return new GroupContainment(instanceName(), await dieWithParentWhereGiven())
    default:
      return unreachable(level)
  }
}

async function buildCgroup(): Promise<Containment> {
  const tools = {
    sh: await requireTool('sh'),
    env: await requireTool('env'),
    dieWithParent: await dieWithParentWhereGiven(),
  }
  return firstThatWorks(
    findCgroupBases().map((basePath) => ({
      name: basePath,
      containment: new CgroupContainment(basePath, instanceName(), tools),
    })),
  )
}

async function buildPidNamespace(): Promise<Containment> {
  if (!existsSync(`/proc/self/task/${process.pid}/children`)) {
    throw new Error('the kernel lists no children in /proc (CONFIG_PROC_CHILDREN)')
  }
  const around = [...dieWithParent(await requireTool('setpriv')), await requireTool('unshare')] as const
  const tools = { sh: await requireTool('sh'), env: await requireTool('env'), setsid: await requireTool('setsid') }
  const asUser = { name: 'with a user namespace', flags: ['--user', '--map-current-user'] }
  // Root keeps its rights over files without one; in a container it may not be root enough for that.
  const variants = process.geteuid?.() === 0 ? [{ name: 'as root', flags: [] }, asUser] : [asUser]
  return firstThatWorks(
    variants.map(({ name, flags }) => ({
      name,
      containment: new PidNamespaceContainment(instanceName(), {
        ...tools,
        enter: [...around, ...flags, '--pid', '--fork', '--kill-child=KILL', '--mount-proc', '--'],
      }),
    })),
  )
}

async function firstThatWorks(
  candidates: readonly { readonly name: string; readonly containment: Containment }[],
): Promise<Containment> {
  const reasons: string[] = []
  for (const { name, containment } of candidates) {
    try {
      await tryOut(containment)
      return containment
    } catch (error) {
      reasons.push(`${name}: ${messageOf(error)}`)
    }
  }
  throw new Error(reasons.join('; '))
}

/** The programs of some systems (busybox) are called the same and cannot do this. */
async function dieWithParentWhereGiven(): Promise<readonly string[]> {
  const setpriv = process.platform === 'linux' ? await findTool('setpriv') : undefined
  if (setpriv === undefined) return []
  const wrapper = dieWithParent(setpriv)
  const trial = new GroupContainment(instanceName(), wrapper)
  const child = await trial.spawn({
    argv: ['true'],
    cwd: '/',
    env: { PATH: DEFAULT_PATH },
    stdin: false,
    owner: 'probe',
  })
  const { exitCode } = await child.exited
  await child.end({ graceMs: 0, deadlineMs: TRIAL_DEADLINE_MS })
  return exitCode === 0 ? wrapper : []
}

const TRIAL_DEADLINE_MS = 5000
const TRIAL_EXIT_CODE = 7

/** A leader that leaves a child behind: its exit code must come through, and the child must be seen, killed and gone. */
async function tryOut(containment: Containment): Promise<void> {
  const child = await containment.spawn({
    argv: ['sh', '-c', `sleep 60 & exit ${TRIAL_EXIT_CODE}`],
    cwd: '/',
    env: { PATH: DEFAULT_PATH },
    stdin: false,
    owner: 'probe',
  })
  const exitCode = await exitCodeInTime(child)
  const { processes, survivors } = await child.end({ graceMs: 0, deadlineMs: TRIAL_DEADLINE_MS })
  if (exitCode !== TRIAL_EXIT_CODE) throw new Error(`a trial run ended with ${exitCode}, expected ${TRIAL_EXIT_CODE}`)
  if (survivors.length > 0) throw new Error('a trial run could not be killed')
  if (processes < 2) throw new Error(`a trial run of 2 processes was seen as ${processes}`)
}

async function exitCodeInTime(child: ContainedProcess): Promise<number | null> {
  const late = Promise.withResolvers<null>()
  const timer = setTimeout(() => late.resolve(null), TRIAL_DEADLINE_MS)
  const exitCode = await Promise.race([child.exited.then((status) => status.exitCode), late.promise])
  clearTimeout(timer)
  return exitCode
}
