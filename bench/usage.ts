/** What a process has used so far. */
export interface Usage {
  readonly cpuMs: number
  readonly rssBytes: number
  readonly heapBytes: number
}

/** Collects garbage first where the process was started with `--expose-gc`, or memory would be a matter of chance. */
export function readUsage(): Usage {
  if (globalThis.gc !== undefined) for (let pass = 0; pass < GC_PASSES; pass += 1) globalThis.gc()
  const { user, system } = process.cpuUsage()
  const { rss, heapUsed, external } = process.memoryUsage()
  return { cpuMs: (user + system) / 1000, rssBytes: rss, heapBytes: heapUsed + external }
}

/** What a pass frees may hold more that the next one frees. */
const GC_PASSES = 3
