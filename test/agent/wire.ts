/** What a fake model says, a piece at a time. */
export type Part =
  | { readonly text: string }
  | { readonly reasoning: string; readonly signature?: string }
  | { readonly redactedReasoning: string }
  /** `input` as JSON; a text goes out as it is. */
  | { readonly call: string; readonly input: unknown; readonly id?: string }
  /** Goes on when it settles. */
  | { readonly wait: Promise<unknown> }
  /** Calls it when all before has gone out. */
  | { readonly reached: () => void }
  /** Bytes as they are. */
  | { readonly raw: string }
  | { readonly error: object }
  /** Nothing more comes, and nothing is closed. */
  | { readonly stall: true }
  /** Says this again and again, for as long as somebody listens. */
  | { readonly forever: string }
  | { readonly rawForever: string }
  /** `end` ends the answer as if that were all; the others close the connection in the middle of it. */
  | { readonly cut: 'FIN' | 'RST' | 'end' }

export interface TokenCount {
  readonly input: number
  readonly output: number
}

/** What only says something, and how it looks on a wire. */
export type Said = Exclude<
  Part,
  | { wait: unknown }
  | { reached: unknown }
  | { raw: string }
  | { stall: true }
  | { forever: string }
  | { rawForever: string }
  | { cut: string }
>

/** How one kind of server streams an answer. */
export interface Encoder {
  begin(): string
  say(part: Said): string
  end(finish: string | null, usage: TokenCount | null): string
}

/** Tool calls come in pieces of this many characters. */
const PIECE = 7

function jsonOf(input: unknown): string {
  return typeof input === 'string' ? input : JSON.stringify(input)
}

function piecesOf(text: string): string[] {
  return text.match(new RegExp(`[^]{1,${PIECE}}`, 'g')) ?? []
}

/** OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat-streaming */
export class ChatCompletions implements Encoder {
  #calls = 0

  begin(): string {
    return this.#chunk({ role: 'assistant', content: '' })
  }

  say(part: Said): string {
    if ('text' in part) return this.#chunk({ content: part.text })
    if ('reasoning' in part) return this.#chunk({ reasoning_content: part.reasoning })
    if ('redactedReasoning' in part) return ''
    if ('error' in part) return data({ error: part.error })
    const index = this.#calls
    this.#calls += 1
    const head = { index, id: part.id ?? `call_${index + 1}`, type: 'function' }
    const first = this.#chunk({ tool_calls: [{ ...head, function: { name: part.call, arguments: '' } }] })
    const rest = piecesOf(jsonOf(part.input)).map((piece) =>
      this.#chunk({ tool_calls: [{ index, function: { arguments: piece } }] }),
    )
    return first + rest.join('')
  }

  end(finish: string | null, usage: TokenCount | null): string {
    const finished =
      finish === null ? '' : data({ ...CHUNK, choices: [{ index: 0, delta: {}, finish_reason: finish }] })
    const used =
      usage === null
        ? ''
        : data({
            ...CHUNK,
            choices: [],
            usage: {
              prompt_tokens: usage.input,
              completion_tokens: usage.output,
              total_tokens: usage.input + usage.output,
            },
          })
    return `${finished}${used}data: [DONE]\n\n`
  }

  #chunk(delta: object): string {
    return data({ ...CHUNK, choices: [{ index: 0, delta, finish_reason: null }] })
  }
}

const CHUNK = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'fake' }

/** Anthropic's messages: https://docs.anthropic.com/en/docs/build-with-claude/streaming */
export class Messages implements Encoder {
  #blocks = 0
  #calls = 0
  /** Text that follows text belongs to the same block. */
  #openText: number | undefined

  begin(): string {
    const usage = { input_tokens: 0, output_tokens: 0 }
    const message = { id: 'msg_1', type: 'message', role: 'assistant', model: 'fake', content: [] }
    return event('message_start', { message: { ...message, stop_reason: null, stop_sequence: null, usage } })
  }

  say(part: Said): string {
    if ('text' in part) {
      const opened = this.#openText === undefined ? this.#open({ type: 'text', text: '' }) : ''
      this.#openText ??= this.#blocks - 1
      return opened + this.#delta(this.#openText, { type: 'text_delta', text: part.text })
    }
    const closed = this.#closeText()
    if ('error' in part) return closed + event('error', { error: part.error })
    if ('redactedReasoning' in part) {
      return closed + this.#open({ type: 'redacted_thinking', data: part.redactedReasoning }) + this.#close()
    }
    if ('reasoning' in part) {
      const thinking = this.#open({ type: 'thinking', thinking: '', signature: '' })
      const said = this.#delta(this.#blocks - 1, { type: 'thinking_delta', thinking: part.reasoning })
      const signed =
        part.signature === undefined
          ? ''
          : this.#delta(this.#blocks - 1, { type: 'signature_delta', signature: part.signature })
      return closed + thinking + said + signed + this.#close()
    }
    this.#calls += 1
    const opened = this.#open({ type: 'tool_use', id: part.id ?? `call_${this.#calls}`, name: part.call, input: {} })
    const pieces = piecesOf(jsonOf(part.input)).map((piece) =>
      this.#delta(this.#blocks - 1, { type: 'input_json_delta', partial_json: piece }),
    )
    return closed + opened + pieces.join('') + this.#close()
  }

  end(finish: string | null, usage: TokenCount | null): string {
    const delta = { stop_reason: finish, stop_sequence: null }
    const used = { input_tokens: usage?.input ?? 0, output_tokens: usage?.output ?? 0 }
    return `${this.#closeText()}${event('message_delta', { delta, usage: used })}${event('message_stop', {})}`
  }

  #open(block: object): string {
    this.#blocks += 1
    return event('content_block_start', { index: this.#blocks - 1, content_block: block })
  }

  #delta(index: number, delta: object): string {
    return event('content_block_delta', { index, delta })
  }

  #close(): string {
    return event('content_block_stop', { index: this.#blocks - 1 })
  }

  #closeText(): string {
    if (this.#openText === undefined) return ''
    const index = this.#openText
    this.#openText = undefined
    return event('content_block_stop', { index })
  }
}

function data(value: object): string {
  return `data: ${JSON.stringify(value)}\n\n`
}

function event(type: string, value: object): string {
  return `event: ${type}\ndata: ${JSON.stringify({ type, ...value })}\n\n`
}
