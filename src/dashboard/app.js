// The dashboard: a list that lives on /jobs/events, and one job that lives on its own stream. Whatever jobs send is shown as text
// nodes only, so nothing in it can become markup.

const PAGE_SIZE = 100

/** Runs of text beyond this are dropped from the top: a page is no log viewer, and the log is kept by the server. */
const MAX_SHOWN_RUNS = 500

const STATUS_EVENTS = [
  'queued',
  'started',
  'requeued',
  'stopping',
  'cancelling',
  'succeeded',
  'failed',
  'cancelled',
  'stopped',
  'timed_out',
  'interrupted',
  'abandoned',
].map((name) => `job.${name}`)

const byId = (id) => document.getElementById(id)
const view = {
  connection: byId('connection'),
  jobs: byId('jobs'),
  noJobs: byId('no-jobs'),
  more: byId('more'),
  job: byId('job'),
  title: byId('job-title'),
  status: byId('job-status'),
  id: byId('job-id'),
  message: byId('message'),
  facts: byId('facts'),
  output: byId('output'),
  stop: byId('stop'),
  cancel: byId('cancel'),
}

/** @type {Map<string, { job: object, item: HTMLElement }>} */
const rows = new Map()
let nextCursor = null
let selectedId = ''
let stream = null

function element(tag, { className = '', text = '' } = {}) {
  const made = document.createElement(tag)
  if (className !== '') made.className = className
  if (text !== '') made.textContent = text
  return made
}

function chip(status) {
  return element('span', { className: `chip ${status}`, text: status.replaceAll('_', ' ') })
}

async function ask(path, options) {
  const response = await fetch(path, options)
  if (!response.ok) {
    const problem = await response.json().catch(() => ({ message: response.statusText }))
    throw new Error(problem.message)
  }
  return response.json()
}

// The list ------------------------------------------------------------------------------------------------------------------

function showRow(job) {
  const known = rows.get(job.id)
  // An answer to the listing may be older than what the stream has said already.
  if (known !== undefined && known.job.lastSeq > job.lastSeq) return
  const item = known?.item ?? element('li')
  const button = element('button', { className: 'row' })
  button.type = 'button'
  button.append(element('span', { className: 'task', text: job.task }), chip(job.status))
  const time = element('time', { className: 'muted', text: new Date(job.createdAt).toLocaleString() })
  time.dateTime = job.createdAt
  button.append(element('span', { className: 'id muted', text: job.id }), time)
  button.addEventListener('click', () => {
    location.hash = job.id
  })
  if (job.id === selectedId) button.setAttribute('aria-current', 'true')
  const hadFocus = item.contains(document.activeElement)
  item.replaceChildren(button)
  if (hadFocus) button.focus()
  rows.set(job.id, { job, item })
  if (known === undefined) place(item, job)
  view.noJobs.hidden = true
  if (job.id === selectedId) showState(job)
}

/** Newest first; almost always that is the top or the end. */
function place(item, job) {
  const isBefore = (other) => {
    const { job: shown } = rows.get(other.dataset.id)
    return shown.createdAt < job.createdAt || (shown.createdAt === job.createdAt && shown.id < job.id)
  }
  item.dataset.id = job.id
  const next = [...view.jobs.children].find(isBefore)
  view.jobs.insertBefore(item, next ?? null)
}

async function list(cursor) {
  const query = new URLSearchParams({ limit: String(PAGE_SIZE), ...(cursor === null ? {} : { cursor }) })
  const page = await ask(`jobs?${query}`)
  for (const job of page.jobs) showRow(job)
  if (cursor !== null || rows.size <= PAGE_SIZE) nextCursor = page.nextCursor
  view.more.hidden = nextCursor === null
  view.noJobs.hidden = rows.size > 0
}

function say(text, isBad = false) {
  view.connection.textContent = text
  view.connection.classList.toggle('bad', isBad)
}

function followJobs() {
  const events = new EventSource('jobs/events')
  // The stream has no replay: each time it opens, what was missed is listed.
  events.addEventListener('open', () => {
    say('live')
    list(null).catch((error) => say(error.message, true))
  })
  events.addEventListener('error', () => {
    say('reconnecting', true)
    if (events.readyState === EventSource.CLOSED) setTimeout(followJobs, 2000)
  })
  for (const type of STATUS_EVENTS) {
    events.addEventListener(type, (event) => showRow(JSON.parse(event.data).job))
  }
}

// One job -------------------------------------------------------------------------------------------------------------------

function showState(job) {
  view.status.replaceChildren(chip(job.status))
  view.stop.hidden = job.terminal
  view.cancel.hidden = job.terminal
  view.stop.disabled = job.status === 'stopping' || job.status === 'cancelling'
  view.cancel.disabled = job.status === 'cancelling'
  showFacts(job)
}

function showFacts({ failure, stop, cancellation, receipt, startedAt, endedAt }) {
  const facts = []
  const ended = cancellation ?? stop
  if (startedAt !== undefined && endedAt !== undefined)
    facts.push(['ran', duration(Date.parse(endedAt) - Date.parse(startedAt))])
  if (failure !== undefined) facts.push(['failure', `${failure.code}: ${failure.message}`])
  if (ended !== undefined) {
    const by = ended.by === undefined ? '' : ` by ${ended.by}`
    facts.push(['cause', `${ended.cause}${by}, while ${ended.phase}${ended.reason === '' ? '' : `: ${ended.reason}`}`])
  }
  if (receipt !== undefined) facts.push(...receiptFacts(receipt))
  view.facts.replaceChildren(
    ...facts.flatMap(([name, value]) => [element('dt', { text: name }), element('dd', { text: value })]),
  )
  view.facts.hidden = facts.length === 0
}

function receiptFacts({ confirmed, containment, released, survivors, requestedToAbortedMs, abortedToSettledMs }) {
  const counts = Object.entries(released).filter(([, count]) => count > 0)
  const gone = counts.length === 0 ? 'nothing was held' : counts.map(([kind, count]) => `${count} ${kind}`).join(', ')
  const times = [
    ['aborted after', requestedToAbortedMs],
    ['settled after', abortedToSettledMs],
  ].flatMap(([what, ms]) => (ms === null ? [] : [`${what} ${ms.toFixed(1)} ms`]))
  const left = survivors.map(({ pid, command }) => `${pid} ${command}`)
  return [
    ['receipt', `${confirmed ? 'confirmed' : 'NOT confirmed'} (${containment.level}): ${gone}`],
    ...(times.length === 0 ? [] : [['times', times.join(', ')]]),
    ...(left.length === 0 ? [] : [['survivors', left.join('; ')]]),
  ]
}

function duration(ms) {
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`
}

function append(className, text) {
  const { output } = view
  const isAtEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 40
  const last = output.lastElementChild
  if (last !== null && last.className === className && last.childNodes.length < 200) last.append(text)
  else output.append(element('span', { className, text }))
  while (output.childElementCount > MAX_SHOWN_RUNS) output.firstElementChild.remove()
  if (isAtEnd) output.scrollTop = output.scrollHeight
}

function showEvent(event) {
  switch (event.type) {
    case 'output':
      append(event.channel, event.text)
      break
    case 'progress':
      append(
        'note',
        `\n${event.current}${event.total === undefined ? '' : ` of ${event.total}`} ${event.message ?? ''}\n`,
      )
      break
    case 'tool.started':
      append('note', `\n▸ ${event.tool} ${JSON.stringify(event.input)}\n`)
      break
    case 'tool.finished':
      append('note', `\n${event.ok ? '✓' : '✗'} ${event.summary}\n`)
      break
    case 'data':
      append('note', `\n${event.name}: ${JSON.stringify(event.value)}\n`)
      break
    case 'artifact':
      append('note', `\nfile ${event.path} (${event.bytes} bytes)\n`)
      break
    case 'gap':
      append('note', `\n… events ${event.from} to ${event.to} are not kept (${event.reason}) …\n`)
      break
    case 'job.requeued':
      // What came before is void: the job runs anew.
      view.output.replaceChildren()
      append('note', `attempt ${event.attempt} was lost; the job starts again\n`)
      break
    case 'job.succeeded':
      append('note', `\nresult: ${JSON.stringify(event.result, null, 2)}\n`)
      break
    default:
  }
  if (STATUS_EVENTS.includes(event.type)) refresh(event.jobId)
}

async function refresh(id) {
  try {
    const job = await ask(`jobs/${id}`)
    if (id === selectedId) showState(job)
    if (job.terminal) stream?.close()
  } catch (error) {
    complain(error.message)
  }
}

function complain(text) {
  view.message.textContent = text
  view.message.hidden = text === ''
}

async function select(id) {
  stream?.close()
  rows.get(selectedId)?.item.firstElementChild?.removeAttribute('aria-current')
  selectedId = id
  view.job.hidden = id === ''
  document.body.classList.toggle('has-job', id !== '')
  if (id === '') return
  rows.get(id)?.item.firstElementChild?.setAttribute('aria-current', 'true')
  complain('')
  view.output.replaceChildren()
  view.status.replaceChildren()
  view.facts.replaceChildren()
  view.title.textContent = rows.get(id)?.job.task ?? 'Job'
  view.id.textContent = id
  try {
    const job = await ask(`jobs/${encodeURIComponent(id)}`)
    if (id !== selectedId) return
    view.title.textContent = job.task
    showState(job)
    // An observer: the page never keeps a job alive, and closing it never ends one.
    stream = new EventSource(`jobs/${encodeURIComponent(id)}/events?named=false`)
    stream.addEventListener('message', (message) => showEvent(JSON.parse(message.data)))
    view.title.focus({ preventScroll: false })
  } catch (error) {
    complain(error.message)
  }
}

async function end(kind) {
  const id = selectedId
  complain('')
  try {
    const job = await ask(`jobs/${encodeURIComponent(id)}/${kind}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ reason: 'asked for on the dashboard' }),
    })
    if (id === selectedId) showState(job)
  } catch (error) {
    complain(error.message)
  }
}

view.stop.addEventListener('click', () => end('stop'))
view.cancel.addEventListener('click', () => end('cancel'))
view.more.addEventListener('click', () => list(nextCursor).catch((error) => say(error.message, true)))
window.addEventListener('hashchange', () => select(location.hash.slice(1)))

followJobs()
select(location.hash.slice(1))
