import type { AgentOptions, AgentTool } from '../task.ts'
import { browserTools } from './browser/browserTools.ts'
import type { TokenBudget } from './TokenBudget.ts'
import { fileTools } from './tools/files.ts'
import { subAgent } from './tools/subAgent.ts'
import { terminal } from './tools/terminal.ts'

/** The tools of an agent whose task names none (protocol, section 5). */
export async function builtInTools(
  options: Pick<AgentOptions, 'model' | 'maxSteps'>,
  budget: TokenBudget,
): Promise<readonly AgentTool[]> {
  return [terminal, ...fileTools, ...(await browserTools()), subAgent(options, budget)]
}
