import type { JSX } from 'preact'

/** On a grid of 16, drawn with strokes of the text's colour. */
const PATHS = {
  clock: 'M8 4.5V8l2.2 1.6M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z',
  play: 'M5.5 3.8v8.4L12 8Z',
  check: 'm3.5 8.5 3 3 6-7',
  cross: 'm4.5 4.5 7 7m0-7-7 7',
  ban: 'M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0ZM3.8 3.8l8.4 8.4',
  square: 'M4.5 4.5h7v7h-7Z',
  hourglass: 'M4.5 2.5h7m-7 11h7M5 2.5c0 3 3 3.5 3 5.5s-3 2.5-3 5.5m6-11c0 3-3 3.5-3 5.5s3 2.5 3 5.5',
  bolt: 'M9 2 4 9h4l-1 5 5-7H8Z',
  question: 'M8 2.5 14 13H2ZM8 6.5v3m0 1.8v.2',
  pause: 'M6 4v8m4-8v8',
  plus: 'M8 3v10M3 8h10',
  search: 'm13 13-3-3m1.2-3.3a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0Z',
  back: 'm9.5 3.5-4.5 4.5 4.5 4.5',
  down: 'M8 3v10m-4-4 4 4 4-4',
  tool: 'M2.5 4.5 6 8l-3.5 3.5M8 12h5.5',
  model: 'M8 2v3m0 6v3M2 8h3m6 0h3M4 4l1.8 1.8m4.4 4.4L12 12m0-8-1.8 1.8M5.8 10.2 4 12',
  child: 'M4 2.5v6a2 2 0 0 0 2 2h6m-3-3 3 3-3 3',
  file: 'M4 2.5h5l3 3v8H4Zm5 0v3h3',
  data: 'M5.5 2.5c-2 0-1 3-1 4S3 8 3 8s1.5.5 1.5 1.5-1 4 1 4m5-11c2 0 1 3 1 4S13 8 13 8s-1.5.5-1.5 1.5 1 4-1 4',
  sun: 'M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6Zm0-3.5v1m0 11v1M1.5 8h1m11 0h1M3.4 3.4l.7.7m7.8 7.8.7.7m0-9.2-.7.7m-7.8 7.8-.7.7',
  moon: 'M13 9.5A5.5 5.5 0 0 1 6.500 3 5.5 5.5 0 1 0 13 9.5Z',
  leave: 'M6.5 2.5h-4v11h4M6 8h7.5m-3-3 3 3-3 3',
  auto: 'M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0ZM8 2v12m2-11v10m2-8.5v7',
} as const

export type IconName = keyof typeof PATHS

/** Beside text that says the same, so that nobody is told twice. */
export function Icon({ name }: { readonly name: IconName }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  )
}
