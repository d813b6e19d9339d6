/**
 * Why a tool did not do what the model asked for, in words for the model: they name the path or the pattern, what was wrong and
 * what is expected. Any other error that comes out of a tool is a defect, and not for its eyes.
 */
export class ToolError extends Error {
  override readonly name = 'ToolError'
}
