// What is used here of the DOM: nothing else of this program runs in a page, so it has no types of its own.
interface PageNode {
  readonly nodeType: number
  readonly childNodes: Iterable<PageNode>
  readonly parentElement: PageElement | null
  readonly isConnected: boolean
}

interface PageText extends PageNode {
  readonly length: number
  substringData(offset: number, count: number): string
}

interface PageElement extends PageNode {
  readonly localName: string
  readonly tagName: string
  readonly shadowRoot: PageNode | null
  readonly isContentEditable?: boolean
  readonly type?: string
  readonly value?: string
  readonly checked?: boolean
  readonly indeterminate?: boolean
  readonly disabled?: boolean
  readonly readOnly?: boolean
  readonly open?: boolean
  readonly control?: PageElement | null
  readonly labels?: Iterable<PageElement> | null
  readonly options?: ArrayLike<PageElement & { readonly label: string; readonly selected: boolean }>
  readonly files?: ArrayLike<{ readonly name: string }> | null
  readonly validity?: { readonly valid: boolean }
  readonly href?: unknown
  textContent: string | null
  getAttribute(name: string): string | null
  hasAttribute(name: string): boolean
  matches(selector: string): boolean
  querySelector(selector: string): PageElement | null
  checkVisibility(): boolean
  getRootNode(): { getElementById?(id: string): PageElement | null; readonly activeElement?: PageElement | null }
  assignedNodes?(options: { readonly flatten: boolean }): readonly PageNode[]
}

interface PageStyle {
  readonly display: string
  readonly visibility: string
  readonly cursor: string
  readonly whiteSpaceCollapse?: string
}

declare const document: PageNode & {
  readonly title: string
  readonly body: PageElement | null
  readonly documentElement: PageElement | null
  createElement(name: string): PageElement
}
declare const getComputedStyle: (element: PageElement) => PageStyle
declare const location: { readonly origin: string; readonly href: string }
declare const innerWidth: number
declare const innerHeight: number

/** What reading a page, or a part of it, came to. */
export interface Reading {
  readonly title: string
  /** Characters `offset` to `offset + maxUnits` of all that there is to read (UTF-16 units). */
  readonly text: string
  /** Where `text` ends, counted from the beginning of the page; where it ends with the page, so much there is in all. */
  readonly end: number
  /** Whether there is more after it. */
  readonly isCut: boolean
  /** Whether the looking was given up, because the page is too large. */
  readonly isGivenUp: boolean
  /** Of the frame, in CSS pixels. */
  readonly width: number
  readonly height: number
}

/** What kind of element something is to be typed into. */
export type TypedKind = 'select' | 'file' | 'other'

interface SelectorEngine {
  query(root: PageNode, selector: string): PageElement | undefined
  queryAll(root: PageNode, selector: string): readonly PageElement[]
}

/**
 * A selector engine for Playwright, which runs it in a world of its own in every frame: it shares the page's elements with the
 * page's scripts, and none of their objects, so nothing that a page does to `Array` or `document` reaches it.
 *
 * `e12` finds the element with that ref. `read OFFSET MAX_UNITS [PREFIX]` and `kind` find an element that is not in the page and
 * whose text is a `Reading` or a `TypedKind`, in JSON: an engine can give nothing but elements. Only its source gets there, so
 * everything that it uses is inside.
 */
export function pageEngine(): SelectorEngine {
  const ELEMENT = 1
  const TEXT = 3

  const MAX_NODES = 300_000
  const MAX_TIME_MS = 2000
  const MAX_DEPTH = 400
  const PIECE_UNITS = 64 * 1024

  const MAX_NAME_UNITS = 160
  const MAX_VALUE_UNITS = 200
  const MAX_OPTIONS = 25
  const MAX_HREF_UNITS = 120

  const SKIPPED = new Set([
    'script',
    'style',
    'noscript',
    'template',
    'head',
    'meta',
    'link',
    'title',
    'option',
    'datalist',
  ])
  const BLOCKS =
    /^(?:block|flex|grid|table|flow-root|list-item|table-row|table-caption|table-(?:row|header|footer)-group)$/
  const FIELDS = new Set([
    'textbox',
    'searchbox',
    'checkbox',
    'radio',
    'select',
    'slider',
    'spinbutton',
    'file',
    'combobox',
  ])
  const ROLES = new Set(
    'button link checkbox radio switch tab option combobox textbox searchbox slider spinbutton treeitem menuitem menuitemcheckbox menuitemradio'.split(
      ' ',
    ),
  )
  const INPUT_ROLES: Readonly<Record<string, string>> = {
    button: 'button',
    submit: 'button',
    reset: 'button',
    image: 'button',
    checkbox: 'checkbox',
    radio: 'radio',
    range: 'slider',
    number: 'spinbutton',
    file: 'file',
    search: 'searchbox',
  }
  const INTERACTIVE =
    'a[href],button,input,select,textarea,summary,[contenteditable],[role="button"],[role="link"],[onclick]'

  const refs = new WeakMap<PageElement, number>()
  const elements = new Map<number, WeakRef<PageElement>>()
  let lastRef = 0

  function refOf(element: PageElement): string {
    const known = refs.get(element)
    if (known !== undefined) return `e${known}`
    lastRef += 1
    refs.set(element, lastRef)
    elements.set(lastRef, new WeakRef(element))
    return `e${lastRef}`
  }

  function elementOf(ref: string): PageElement | undefined {
    const element = elements.get(Number(ref.slice(1)))?.deref()
    return element?.isConnected === true ? element : undefined
  }

  /** Puts words into lines, and keeps those between `start` and `end`. */
  class Lines {
    text = ''
    position = 0
    readonly #start: number
    readonly #end: number
    #before = ''
    /** What the next line begins with. */
    prefix = ''

    constructor(start: number, end: number) {
      this.#start = start
      this.#end = end
    }

    /** Whether more came than there was room for. */
    get isOver(): boolean {
      return this.position > this.#end
    }

    /** Inline text, in which white space counts as one space. */
    words(raw: string): void {
      const text = raw.replaceAll(/[\s\u200b\u00ad]+/g, ' ')
      if (text.startsWith(' ')) this.gap(' ')
      if (text.trim() !== '') this.#put(text.trim())
      if (text.length > 1 && text.endsWith(' ')) this.gap(' ')
    }

    /** Text whose white space is as it stands. */
    exact(raw: string): void {
      for (const [index, line] of raw.split('\n').entries()) {
        if (index > 0) this.line()
        if (line.trim() !== '') this.#put(line.replaceAll('\r', ''))
      }
    }

    /** What stands between what came and what comes, if something comes; a new line is stronger than what is inside of one. */
    gap(text: string): void {
      if (this.#before !== '\n' && (text !== ' ' || this.#before === '')) this.#before = text
    }

    /** What comes next begins a line, with `prefix`. */
    line(prefix = ''): void {
      this.#before = '\n'
      this.prefix += prefix
    }

    #put(text: string): void {
      const whole = `${this.position === 0 ? '' : this.#before}${this.prefix}${text}`
      this.#before = ''
      this.prefix = ''
      const from = Math.max(0, this.#start - this.position)
      const to = Math.max(0, this.#end - this.position)
      this.text += whole.slice(from, to)
      this.position += whole.length
    }
  }

  /** One look at a page, which ends when it has seen enough. */
  class Look {
    readonly lines: Lines
    readonly #prefix: string
    readonly #endsMs = Date.now() + MAX_TIME_MS
    #nodes = 0
    isGivenUp = false

    constructor(lines: Lines, prefix: string) {
      this.lines = lines
      this.#prefix = prefix
    }

    get #isDone(): boolean {
      return this.lines.isOver || this.isGivenUp
    }

    #count(): void {
      this.#nodes += 1
      if (this.#nodes > MAX_NODES || (this.#nodes % 256 === 0 && Date.now() > this.#endsMs)) this.isGivenUp = true
    }

    node(node: PageNode, depth: number, style: PageStyle | undefined): void {
      if (this.#isDone) return
      this.#count()
      if (node.nodeType === TEXT) this.#text(node as PageText, style)
      else if (node.nodeType === ELEMENT) this.#element(node as PageElement, depth)
    }

    #text(node: PageText, style: PageStyle | undefined): void {
      if (style !== undefined && style.visibility !== 'visible') return
      const isExact = style?.whiteSpaceCollapse === 'preserve' || style?.whiteSpaceCollapse === 'break-spaces'
      for (let at = 0; at < node.length && !this.#isDone; at += PIECE_UNITS) {
        const piece = node.substringData(at, PIECE_UNITS)
        if (isExact) this.lines.exact(piece)
        else this.lines.words(piece)
        if (Date.now() > this.#endsMs) this.isGivenUp = true
      }
    }

    #element(element: PageElement, depth: number): void {
      const name = element.localName
      if (SKIPPED.has(name)) return
      if (depth > MAX_DEPTH) {
        this.isGivenUp = true
        return
      }
      const style = getComputedStyle(element)
      if (!isRendered(element, style)) return
      const isBlock = BLOCKS.test(style.display)
      const { position, prefix } = this.lines
      if (isBlock) this.lines.line(linePrefix(element, style))
      else if (style.display === 'table-cell') this.lines.gap(' | ')
      else if (style.display.startsWith('inline-')) this.lines.gap(' ')
      if (!this.#leaf(element, name) && !this.#interactive(element, style)) this.children(element, depth, style)
      if (isBlock) this.lines.line()
      else if (style.display.startsWith('inline-')) this.lines.gap(' ')
      // An empty item of a list leaves no mark on the next.
      if (this.lines.position === position) this.lines.prefix = prefix
    }

    children(element: PageElement, depth: number, style: PageStyle): void {
      const assigned = element.localName === 'slot' ? (element.assignedNodes?.({ flatten: true }) ?? []) : []
      const children = assigned.length > 0 ? assigned : (element.shadowRoot ?? element).childNodes
      const isClosed = element.localName === 'details' && element.open !== true
      for (const child of children) {
        if (this.#isDone) return
        if (!isClosed || (child as PageElement).localName === 'summary') this.node(child, depth + 1, style)
      }
    }

    /** What is told in a few words, because nothing of it can be read. */
    #leaf(element: PageElement, name: string): boolean {
      switch (name) {
        case 'br':
          this.lines.line()
          return true
        case 'hr':
          this.lines.words('---')
          return true
        case 'img':
          if (element.getAttribute('alt')) this.lines.words(`(image ${quoted(element.getAttribute('alt'))})`)
          return true
        case 'svg':
          if (element.getAttribute('aria-label')) {
            this.lines.words(`(image ${quoted(element.getAttribute('aria-label'))})`)
          }
          return true
        case 'iframe':
        case 'frame':
          this.lines.words(`(frame ${quoted(element.getAttribute('title') ?? element.getAttribute('name') ?? '')})`)
          return true
        case 'canvas':
        case 'video':
        case 'audio':
        case 'object':
        case 'embed':
          this.lines.words(`(${name} ${quoted(element.getAttribute('aria-label') ?? '')})`)
          return true
        default:
          return false
      }
    }

    /** True where its content is told with it. */
    #interactive(element: PageElement, style: PageStyle): boolean {
      if (style.visibility !== 'visible') return false
      const field = fieldBehind(element)
      const role = roleOf(field, style)
      if (role === undefined) return false
      const isField = FIELDS.has(role) && !hasTextOfItsOwn(field)
      const name = nameOf(field, isField)
      const isWhole = isField || (name.length <= MAX_NAME_UNITS && element.querySelector(INTERACTIVE) === null)
      const told = [
        `${this.#prefix}${refOf(element)}`,
        role,
        ...(isWhole && name !== '' ? [quoted(name)] : []),
        ...statesOf(field, role),
      ]
      this.lines.words(`[${told.join(' ')}]`)
      if (!isWhole) this.lines.gap(' ')
      return isWhole
    }
  }

  function isRendered(element: PageElement, style: PageStyle): boolean {
    if (style.display === 'none') return false
    // It has no box of its own, only its children have.
    return style.display === 'contents' || element.localName === 'area' || element.checkVisibility()
  }

  function linePrefix(element: PageElement, style: PageStyle): string {
    const level = /^h([1-6])$/.exec(element.localName)?.[1]
    if (level !== undefined) return `${'#'.repeat(Number(level))} `
    if (element.getAttribute('role') === 'heading') return '## '
    if (element.localName === 'dialog' || /^(?:alert)?dialog$/.test(element.getAttribute('role') ?? ''))
      return '(dialog) '
    return style.display === 'list-item' && element.localName !== 'summary' ? '- ' : ''
  }

  /** A label whose control cannot be seen stands for it, as with most switches that are drawn by a style sheet. */
  function fieldBehind(element: PageElement): PageElement {
    const control = element.localName === 'label' ? element.control : undefined
    return control && !control.checkVisibility() ? control : element
  }

  function roleOf(element: PageElement, style: PageStyle): string | undefined {
    const role = element.getAttribute('role')?.trim().split(/\s+/)[0]?.toLowerCase()
    if (role !== undefined && ROLES.has(role)) return role
    switch (element.localName) {
      case 'a':
      case 'area':
        if (element.hasAttribute('href')) return 'link'
        break
      case 'button':
      case 'summary':
        return 'button'
      case 'select':
        return 'select'
      case 'textarea':
        return 'textbox'
      case 'input':
        return element.type === 'hidden' ? undefined : (INPUT_ROLES[element.type ?? ''] ?? 'textbox')
      case 'label':
      case 'html':
      case 'body':
        return undefined
    }
    if (element.isContentEditable === true && element.parentElement?.isContentEditable !== true) return 'textbox'
    const isFocusable = Number(element.getAttribute('tabindex') ?? -1) >= 0
    return isFocusable || element.hasAttribute('onclick') || hasPointerOfItsOwn(element, style)
      ? 'clickable'
      : undefined
  }

  /** Where nothing else says that it can be clicked, its author's style sheet often does. */
  function hasPointerOfItsOwn({ parentElement }: PageElement, { cursor }: PageStyle): boolean {
    return cursor === 'pointer' && (parentElement === null || getComputedStyle(parentElement).cursor !== 'pointer')
  }

  function hasTextOfItsOwn({ localName, isContentEditable }: PageElement): boolean {
    return !['input', 'select', 'textarea'].includes(localName) && isContentEditable !== true
  }

  function nameOf(element: PageElement, isField: boolean): string {
    const labelled = (element.getAttribute('aria-labelledby') ?? '')
      .split(/\s+/)
      .map((id) => (id === '' ? '' : textOf(element.getRootNode().getElementById?.(id))))
    const label = isField ? [...(element.labels ?? [])].map((label) => textOf(label)) : []
    const isPressed = element.localName === 'input' && !isField
    const candidates = [
      labelled.join(' '),
      element.getAttribute('aria-label'),
      label.join(' '),
      isPressed ? (element.value ?? '') : '',
      isField ? '' : textOf(element),
      element.getAttribute('placeholder'),
      element.getAttribute('title'),
      element.getAttribute('alt'),
      isField ? element.getAttribute('name') : '',
    ]
    for (const candidate of candidates) {
      const name = (candidate ?? '').replaceAll(/\s+/g, ' ').trim()
      if (name !== '') return name
    }
    return ''
  }

  /** A little more than a name's length of what can be read in it. */
  function textOf(element: PageElement | null | undefined): string {
    if (element === null || element === undefined) return ''
    let text = ''
    let nodes = 0
    const take = (node: PageNode): void => {
      nodes += 1
      if (text.length > MAX_NAME_UNITS || nodes > 500) return
      if (node.nodeType === TEXT) text += (node as PageText).substringData(0, 2 * MAX_NAME_UNITS)
      if (node.nodeType !== ELEMENT) return
      const inner = node as PageElement
      if (SKIPPED.has(inner.localName) || inner.localName === 'select' || inner.localName === 'textarea') return
      if (inner !== element && !isRendered(inner, getComputedStyle(inner))) return
      if (inner.localName === 'img') text += ` ${inner.getAttribute('alt') ?? ''} `
      if (inner.localName === 'svg') {
        text += ` ${inner.getAttribute('aria-label') ?? textOfTitle(inner)} `
        return
      }
      const isInline = getComputedStyle(inner).display === 'inline'
      if (!isInline) text += ' '
      for (const child of (inner.shadowRoot ?? inner).childNodes) take(child)
      if (!isInline) text += ' '
    }
    take(element)
    return text.replaceAll(/\s+/g, ' ').trim()
  }

  function textOfTitle(svg: PageElement): string {
    return (svg.querySelector('title')?.textContent ?? '').slice(0, MAX_NAME_UNITS)
  }

  function statesOf(element: PageElement, role: string): readonly string[] {
    const aria = (name: string): string | null => element.getAttribute(`aria-${name}`)
    const states: string[] = []
    if (role === 'link') states.push(...hrefOf(element))
    if (['checkbox', 'radio', 'switch', 'menuitemcheckbox', 'menuitemradio'].includes(role)) {
      const isMixed = element.indeterminate === true || aria('checked') === 'mixed'
      const isChecked = element.checked ?? aria('checked') === 'true'
      states.push(isMixed ? 'mixed' : isChecked ? 'checked' : 'not checked')
    } else if (role === 'select') states.push(...choicesOf(element))
    else if (FIELDS.has(role)) states.push(...valueOf(element))
    if (aria('selected') === 'true') states.push('selected')
    if (aria('current') !== null && aria('current') !== 'false') states.push('current')
    if (aria('pressed') === 'true') states.push('pressed')
    if (aria('expanded') !== null) states.push(aria('expanded') === 'true' ? 'expanded' : 'collapsed')
    if (element.localName === 'summary') {
      states.push(element.parentElement?.open === true ? 'expanded' : 'collapsed')
    }
    if (element.disabled === true || aria('disabled') === 'true') states.push('disabled')
    if (element.readOnly === true && FIELDS.has(role)) states.push('read-only')
    if (element.value && element.validity?.valid === false) states.push('invalid')
    if (element.getRootNode().activeElement === element) states.push('focused')
    return states
  }

  /** Its address as it stands on this page; scripts and places in the page say nothing. */
  function hrefOf({ href }: PageElement): readonly string[] {
    // In SVG it is an object.
    if (typeof href !== 'string' || !/^https?:/.test(href) || href.split('#')[0] === location.href.split('#')[0])
      return []
    const shown = href.startsWith(`${location.origin}/`) ? href.slice(location.origin.length) : href
    return [shown.length > MAX_HREF_UNITS ? `${shown.slice(0, MAX_HREF_UNITS)}…` : shown]
  }

  function valueOf(element: PageElement): readonly string[] {
    if (element.type === 'password') return [element.value ? 'filled' : 'empty']
    if (element.type === 'file') {
      const files = Array.from(element.files ?? []).map(({ name }) => quoted(name))
      return files.length > 0 ? ['has', ...files] : []
    }
    const value =
      element.value ?? (element.isContentEditable === true ? textOf(element) : element.getAttribute('aria-valuenow'))
    return value ? [`= ${quoted(value, MAX_VALUE_UNITS)}`] : []
  }

  function choicesOf({ options = [] }: PageElement): readonly string[] {
    const all = Array.from(options)
    const chosen = all.filter(({ selected }) => selected).map(({ label }) => quoted(label))
    const shown = all.slice(0, MAX_OPTIONS).map(({ label }) => quoted(label))
    const more = all.length > MAX_OPTIONS ? `, … ${all.length} in all` : ''
    return [`= ${chosen.slice(0, MAX_OPTIONS).join(', ') || 'nothing'}`, `of ${shown.join(', ')}${more}`]
  }

  function quoted(text: string | null, maxUnits = MAX_NAME_UNITS): string {
    const line = (text ?? '')
      .slice(0, 4 * maxUnits)
      .replaceAll(/\s+/g, ' ')
      .trim()
    return line.length > maxUnits ? `"${line.slice(0, maxUnits)}…"` : `"${line}"`
  }

  function read(root: PageNode, offset: number, maxUnits: number, prefix: string): Reading {
    const lines = new Lines(offset, offset + maxUnits)
    const look = new Look(lines, prefix)
    const top = root === document ? (document.body ?? document.documentElement) : root
    if (top !== null) look.node(top, 0, undefined)
    return {
      title: document.title.slice(0, MAX_VALUE_UNITS),
      text: lines.text,
      end: Math.min(lines.position, offset + maxUnits),
      isCut: lines.isOver || look.isGivenUp,
      isGivenUp: look.isGivenUp && !lines.isOver,
      width: innerWidth,
      height: innerHeight,
    }
  }

  function kindOf(element: PageElement): TypedKind {
    if (element.localName === 'select') return 'select'
    return element.localName === 'input' && element.type === 'file' ? 'file' : 'other'
  }

  function bearing(value: unknown): PageElement {
    const bearer = document.createElement('div')
    bearer.textContent = JSON.stringify(value)
    return bearer
  }

  function queryAll(root: PageNode, selector: string): readonly PageElement[] {
    const [word = '', offset, maxUnits, prefix = ''] = selector.trim().split(/\s+/)
    if (word === 'read') return [bearing(read(root, Number(offset), Number(maxUnits), prefix))]
    if (word === 'kind') return [bearing(kindOf(root as PageElement))]
    const element = elementOf(word)
    return element === undefined ? [] : [element]
  }

  return { queryAll, query: (root, selector) => queryAll(root, selector)[0] }
}
