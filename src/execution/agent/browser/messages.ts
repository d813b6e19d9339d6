import Type, { type Static } from 'typebox'
import { messageParser } from '../../isolation/messageParser.ts'

/** How a dialog of the page is answered: with its OK or its Cancel. */
export type DialogAnswer = 'accept' | 'dismiss'

/** One call of a browser tool, its defaults filled in. Every one ends after about `timeoutMs`. */
export type BrowserCall =
  | { readonly do: 'open'; readonly url: string; readonly maxCharacters: number; readonly timeoutMs: number }
  | {
      readonly do: 'click'
      readonly target: string
      readonly isDouble: boolean
      readonly dialogs: DialogAnswer
      readonly maxCharacters: number
      readonly timeoutMs: number
    }
  | {
      readonly do: 'type'
      readonly target?: string
      readonly text?: string
      readonly press?: string
      readonly isKeyByKey: boolean
      readonly dialogs: DialogAnswer
      readonly maxCharacters: number
      readonly timeoutMs: number
    }
  | {
      readonly do: 'read'
      readonly target?: string
      readonly offset: number
      readonly maxCharacters: number
      readonly timeoutMs: number
    }
  | {
      readonly do: 'wait'
      readonly text?: string
      readonly isGone: boolean
      readonly maxCharacters: number
      readonly timeoutMs: number
    }
  | { readonly do: 'back'; readonly maxCharacters: number; readonly timeoutMs: number }
  | {
      readonly do: 'screenshot'
      readonly target?: string
      readonly isFullPage: boolean
      readonly timeoutMs: number
    }

/** Comes first and once. */
export interface StartMessage {
  readonly type: 'start'
  /** The program. */
  readonly chromium: string
  /** Empty, and the browser's own: its profile and all that it writes besides. */
  readonly folder: string
  /** Where screenshots and downloads go. */
  readonly workspace: string
}

/** What the server tells the browser's driver. */
export type ToDriver = StartMessage | { readonly type: 'call'; readonly id: number; readonly call: BrowserCall }

/** The server is trusted by the process that it started; only the other direction is checked. */
export function parseToDriver(message: unknown): ToDriver {
  return message as ToDriver
}

const CLOSED = { additionalProperties: false } as const

const FromDriverSchema = Type.Union([
  /** The browser runs and is connected to. */
  Type.Object({ type: Type.Literal('ready') }, CLOSED),
  Type.Object({ type: Type.Literal('failed'), message: Type.String() }, CLOSED),
  Type.Object(
    {
      type: Type.Literal('answer'),
      id: Type.Integer(),
      ok: Type.Boolean(),
      text: Type.String(),
      /** Files of the workspace that came to be, with `/`. */
      files: Type.Array(Type.String()),
    },
    CLOSED,
  ),
])

/** What the browser's driver tells the server. */
export type FromDriver = Static<typeof FromDriverSchema>
export type DriverAnswer = Extract<FromDriver, { type: 'answer' }>

/** The process over there deals with pages. @throws {Error} for what is no message */
export const parseFromDriver = messageParser(FromDriverSchema, "the browser's driver")
