export const THEMES = ['auto', 'light', 'dark'] as const
export type Theme = (typeof THEMES)[number]

const STORED_AS = 'tether.theme'

export function storedTheme(storage: Storage): Theme {
  const stored = storage.getItem(STORED_AS)
  return THEMES.find((theme) => theme === stored) ?? 'auto'
}

/** `auto` is what the system says. */
export function applyTheme(theme: Theme, storage: Storage): void {
  if (theme === 'auto') delete document.documentElement.dataset['theme']
  else document.documentElement.dataset['theme'] = theme
  storage.setItem(STORED_AS, theme)
}
