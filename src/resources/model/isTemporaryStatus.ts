/** Whether a call of a model server that was answered with this HTTP status may be answered otherwise when it is made again. */
export function isTemporaryStatus(status: number): boolean {
  return status === 408 || status === 429 || status >= 500
}
