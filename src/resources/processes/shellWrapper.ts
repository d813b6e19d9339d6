/**
 * A program that is started through `sh` must get the environment it was given, but a shell does not hand on all of it: dash
 * drops names that are no identifiers, and shells write into some by themselves (PWD, SHLVL, PPID, …) or obey them (IFS,
 * OPTIND, SHELLOPTS); and the loader obeys some (LD_PRELOAD) in the wrapper as well as in the program. Those travel under names of ours and are put back by `env`. Their values can be seen in the process
 * list for the moment that `env` takes, so nothing else goes that way.
 */
export interface WrappedEnvironment {
  readonly env: Readonly<Record<string, string>>
  /** Shell code that puts `env NAME=VALUE…` in front of the positional parameters where it is needed, and hides our names. */
  readonly restore: string
}

const PLAIN_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

const TOUCHED_BY_SHELLS =
  /^(?:_|PWD|OLDPWD|SHLVL|IFS|PPID|LINENO|OPTIND|OPTARG|OPTERR|PS[0-4]|E?UID|GROUPS|DIRSTACK|RANDOM|SRANDOM|SECONDS|EPOCH.*|HOSTNAME|HOSTTYPE|MACHTYPE|OSTYPE|PIPESTATUS|FUNC.*|COMP_.*|SHELLOPTS|BASH.*|POSIXLY_CORRECT|TETHER_ENV_.*|LD_.*|GLIBC_TUNABLES)$/

export function wrapEnvironment(env: Readonly<Record<string, string>>, envProgram: string): WrappedEnvironment {
  const plain: Record<string, string> = {}
  const carried: string[] = []
  for (const [name, value] of Object.entries(env)) {
    if (PLAIN_NAME.test(name) && !TOUCHED_BY_SHELLS.test(name)) plain[name] = value
    else carried.push(`${name}=${value}`)
  }
  const ours = carried.map((_, index) => `TETHER_ENV_${index}`)
  carried.forEach((assignment, index) => {
    plain[`TETHER_ENV_${index}`] = assignment
  })
  return { env: plain, restore: restoreScript(ours, envProgram) }
}

function restoreScript(ours: readonly string[], envProgram: string): string {
  const unset = `unset PWD OLDPWD SHLVL _ ${ours.join(' ')}`
  if (ours.length === 0) return unset
  return `set -- ${shellQuote(envProgram)} ${ours.map((name) => `"$${name}"`).join(' ')} "$@"; ${unset}`
}

/**
 * `argv` as a shell's `exec` and `env` take it: they would read a name that begins with `-` or holds `=` as something else, so
 * there the program's path stands in for it. Accepted: a path that holds `=` does not work together with variables to restore.
 */
export function argvFor(argv: readonly [string, ...string[]], program: string): readonly string[] {
  const [name, ...args] = argv
  return [/^-|=/.test(name) ? program : name, ...args]
}

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
