/** What a command may know of the server's environment. Everything else, secrets above all, has to be given by the caller. */
const INHERITED = ['HOME', 'LANG', 'LANGUAGE', 'LOGNAME', 'PATH', 'SHELL', 'TERM', 'TMPDIR', 'TZ', 'USER']

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The basic environment of commands: a list of what is let through, since no list of secrets is ever complete. */
export function commandEnvironment(serverEnv: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const env: Record<string, string> = { PATH: DEFAULT_PATH }
  for (const [name, value] of Object.entries(serverEnv)) {
    if (value !== undefined && isForCommands(name)) env[name] = value
  }
  return env
}

/** Whether commands may know the server's variable of this name. */
export function isForCommands(name: string): boolean {
  return INHERITED.includes(name) || name.startsWith('LC_')
}
