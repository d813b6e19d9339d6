import type { Locator, Page } from 'playwright-core'
import { unreachable } from '../../../../job/unreachable.ts'
import type { BrowserCall } from '../messages.ts'
import { isTimeout } from './explain.ts'
import type { TypedKind } from './pageEngine.ts'

/** Choices that are loaded later are rare, and a choice that is not there never comes. */
const SELECT_MS = 3000

/** What the model is told of it, a line. `locator` undefined: what has the focus. @throws {Error} saying what was in the way */
export async function typeText(
  page: Page,
  locator: Locator | undefined,
  call: Extract<BrowserCall, { do: 'type' }>,
  maxMs: number,
): Promise<string> {
  const { target, text, press, isKeyByKey } = call
  const done: string[] = []
  if (text !== undefined) {
    if (locator !== undefined) await typeInto(locator, text, isKeyByKey, maxMs)
    else if (isKeyByKey) await page.keyboard.type(text)
    else await page.keyboard.insertText(text)
    done.push('typed')
  }
  if (press !== undefined) {
    if (locator === undefined) await page.keyboard.press(press)
    else await locator.press(press, { timeout: maxMs })
    done.push(`pressed ${press}`)
  }
  return `Done: ${done.join(', ')}${target === undefined ? '' : ` in ${target}`}.`
}

async function typeInto(locator: Locator, text: string, isKeyByKey: boolean, maxMs: number): Promise<void> {
  const kind: TypedKind = JSON.parse((await locator.locator('tether=kind').textContent({ timeout: maxMs })) ?? '')
  switch (kind) {
    case 'select':
      return choose(locator, text, maxMs)
    case 'file':
      throw new Error('files cannot be uploaded with this browser')
    case 'other':
      return isKeyByKey ? locator.pressSequentially(text, { timeout: maxMs }) : locator.fill(text, { timeout: maxMs })
    default:
      return unreachable(kind)
  }
}

async function choose(locator: Locator, text: string, maxMs: number): Promise<void> {
  try {
    await locator.selectOption(text, { timeout: Math.min(SELECT_MS, maxMs) })
  } catch (error) {
    if (!isTimeout(error)) throw error
    throw new Error(`there is no choice ${JSON.stringify(text.slice(0, 100))} in it that can be taken`, {
      cause: error,
    })
  }
}
