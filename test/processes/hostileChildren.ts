/** What a shell line is made of: `token` must be in the command line of every process that counts. */
export interface HostileChild {
  readonly name: string
  readonly line: (token: string) => string
  /** How many of its `sleep`s run once it is at it. */
  readonly sleeps: number
  /** Whether it is beyond the reach of a process group with a sweep: outside of the group, without its environment. */
  readonly escapesGroup?: true
  /** Whether only the levels that are complete are certain to end it, and it is not to be let loose at others. */
  readonly needsComplete?: true
}

/** Each sleeps with an argument of its own, so that it can be told from outside. All of them end by themselves in time. */
export const sleep = (token: string) => `sleep 120.${token}`

/** Becomes another process all the time; the count keeps one that got away from going on for ever. */
function changer(token: string, start: string): string {
  const step = `[ $N -gt 0 ] && N=$((N-1)) && ${start} sh -c "$C" ${token} &`
  return `export N=4000 C='${step}'; sh -c "$C" ${token}; ${sleep(token)}`
}

export const HOSTILE_CHILDREN: readonly HostileChild[] = [
  {
    name: 'a nested tree',
    sleeps: 3,
    line: (t) => `(sh -c '(${sleep(t)} & ${sleep(t)} & wait) & (${sleep(t)} & wait) & wait' & wait) & wait`,
  },
  { name: 'TERM trapped', sleeps: 0, line: (t) => `trap "" TERM INT HUP; while :; do sleep 0.05; done; : ${t}` },
  {
    name: 'stopped',
    sleeps: 1,
    line: (t) => `trap "" TERM CONT; ${sleep(t)} & sleep 0.2; kill -STOP $!; kill -STOP $$; :`,
  },
  { name: 'setsid, its leader alive', sleeps: 1, line: (t) => `setsid ${sleep(t)} & wait` },
  { name: 'setsid, its leader gone', sleeps: 2, line: (t) => `setsid sh -c '${sleep(t)} &' & wait; ${sleep(t)}` },
  { name: 'a double-fork daemon', sleeps: 2, line: (t) => `(setsid sh -c '(${sleep(t)} &) &' &); exec ${sleep(t)}` },
  {
    name: 'a double-fork daemon with an empty environment',
    sleeps: 2,
    escapesGroup: true,
    line: (t) => `(env -i setsid sh -c '(${sleep(t)} &) &' &); exec ${sleep(t)}`,
  },
  { name: 'an empty environment in the group', sleeps: 2, line: (t) => `env -i ${sleep(t)} & exec ${sleep(t)}` },
  {
    name: 'a burst of forks',
    sleeps: 60,
    line: (t) => `i=0; while [ $i -lt 60 ]; do ${sleep(t)} & i=$((i+1)); done; wait`,
  },
  {
    name: 'a respawner',
    sleeps: 3,
    line: (t) =>
      `f() { i=0; while [ $i -lt 500 ]; do setsid ${sleep(t)} & p=$!; sleep 0.05; kill $p; i=$((i+1)); done; }; f & f & ${sleep(t)}`,
  },
  { name: 'one that changes its pid', sleeps: 1, line: (t) => changer(t, '') },
  {
    name: 'one that changes its pid and its session',
    sleeps: 1,
    needsComplete: true,
    line: (t) => changer(t, 'setsid'),
  },
  // The job of this one ends with its leader, so that it is over before anybody looks.
  { name: 'one that holds the pipe', sleeps: 0, line: (t) => `setsid ${sleep(t)} & exit 0` },
]
