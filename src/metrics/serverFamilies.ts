import type { ResponseKind, Sent, ServerFigures } from '../server/ServerFigures.ts'
import type { Family, Sample } from './Family.ts'
import { one } from './Family.ts'

export function serverFamilies(read: () => ServerFigures): readonly Family[] {
  const figures = onceATurn(read)
  const counter = (name: string, help: string, value: (counters: ServerFigures['counters']) => number): Family => ({
    kind: 'counter',
    name,
    help,
    read: () => one(value(figures().counters)),
  })
  const sent = (name: string, help: string, of: keyof Sent): Family => ({
    kind: 'counter',
    name,
    help,
    labelNames: ['kind'],
    read: () => byKind(figures().sent, (each) => each[of]),
  })
  return [
    {
      kind: 'gauge',
      name: 'tether_streams_open',
      help: 'Responses that are open: streams of a job, streams of all jobs, requests that wait for an outcome.',
      labelNames: ['kind'],
      read: () => byKind(figures().open, (open) => open),
    },
    {
      kind: 'gauge',
      name: 'tether_readers_slow',
      help: 'Streams whose client has not taken what it was sent.',
      read: () => one(figures().slow),
    },
    sent('tether_sent_bytes_total', 'Bytes that the kernel took of these responses, with their heads.', 'bytes'),
    sent('tether_sent_events_total', 'Events that were written to streams.', 'events'),
    {
      kind: 'counter',
      name: 'tether_streams_cut_total',
      help: 'Streams that were cut: nothing was taken for STALL_MS, the client vanished, a list fell behind, the log could not be read.',
      labelNames: ['why'],
      read: () => {
        const { stalledStreams, vanishedClients, droppedFeeds, failedStreams } = figures().counters
        const cut = { stalled: stalledStreams, vanished: vanishedClients, behind: droppedFeeds, log: failedStreams }
        return Object.entries(cut).map(([why, value]) => ({ labels: { why }, value }))
      },
    },
    counter(
      'tether_streams_refused_total',
      'Streams refused because their client has as many as it may.',
      ({ refusedStreams }) => refusedStreams,
    ),
    counter(
      'tether_frames_after_end_total',
      'Frames that came for a stream that was over.',
      ({ framesAfterEnd }) => framesAfterEnd,
    ),
  ]
}

/** Families are read in one turn of the loop, and what ten thousand streams say of themselves is asked once for all of them. */
function onceATurn<T>(ask: () => T): () => T {
  let asked: { readonly answer: T } | undefined
  return () => {
    if (asked === undefined) {
      asked = { answer: ask() }
      queueMicrotask(() => {
        asked = undefined
      })
    }
    return asked.answer
  }
}

function byKind<T>(of: Readonly<Record<ResponseKind, T>>, value: (of: T) => number): readonly Sample[] {
  return Object.entries(of).map(([kind, each]) => ({ labels: { kind }, value: value(each) }))
}
