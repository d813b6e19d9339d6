/**
 * With what our own programs are started: nothing of this machine but where commands are, and what Node has compiled before
 * (vitest.config.ts names the folder), since hundreds of servers and clients are started.
 */
export const programEnvironment = {
  PATH: process.env['PATH'],
  NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
}
