import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import { useDashboard } from '../Dashboard.ts'
import type { Connection } from '../jobs/JobFeed.ts'
import { applyTheme, storedTheme, THEMES, type Theme } from '../Theme.ts'
import { useChanges } from '../useChanges.ts'
import { Icon } from './Icon.tsx'

const SAID = {
  connecting: 'Connecting…',
  live: 'Live',
  reconnecting: 'Reconnecting…',
  paused: 'Paused for another tab',
  refused: 'Refused',
} as const satisfies Record<Connection, string>

/** `onSkip` goes past it, to what the page is about. */
export function TopBar({ onSkip }: { readonly onSkip: () => void }): JSX.Element {
  const { api, feed, health: watch, login } = useDashboard()
  useChanges(feed.changes, watch.changes)
  return (
    <header class="top-bar">
      <button type="button" class="button skip" onClick={onSkip}>
        Skip to the content
      </button>
      <a class="brand" href="#/" aria-label="Tether, all jobs">
        <img src="icon.svg" alt="" width="24" height="24" />
        <span>Tether</span>
      </a>
      <span class={`connection connection-${feed.connection}`} role="status">
        <span class="dot" aria-hidden="true" />
        {SAID[feed.connection]}
      </span>
      <nav aria-label="Main">
        {watch.health?.hasSession === true && (
          <button
            type="button"
            class="button quiet icon-only"
            title="Log out"
            aria-label="Log out"
            onClick={() => void login.end(api)}
          >
            <Icon name="leave" />
          </button>
        )}
        <ThemeButton />
        <a class="button quiet docs-link" href="docs" target="_blank" rel="noopener">
          API
        </a>
        <a class="button primary" href="#/start">
          <Icon name="plus" />
          New job
        </a>
      </nav>
    </header>
  )
}

const THEME_ICONS = { auto: 'auto', light: 'sun', dark: 'moon' } as const
const THEME_NAMES = { auto: 'as the system', light: 'light', dark: 'dark' } as const

function ThemeButton(): JSX.Element {
  const [theme, setTheme] = useState<Theme>(() => storedTheme(localStorage))
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? 'auto'
  const label = `Theme: ${THEME_NAMES[theme]}. Change to ${THEME_NAMES[next]}`
  return (
    <button
      type="button"
      class="button quiet icon-only"
      title={label}
      aria-label={label}
      onClick={() => {
        applyTheme(next, localStorage)
        setTheme(next)
      }}
    >
      <Icon name={THEME_ICONS[theme]} />
    </button>
  )
}
