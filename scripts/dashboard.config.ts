import { join } from 'node:path'
import { defineConfig } from 'vite'

/** How `scripts/dashboard` builds the page at `/`. */
export default defineConfig({
  root: join(import.meta.dirname, '..', 'src', 'dashboard'),
  // Whatever the server's pages are below.
  base: './',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    target: 'es2023',
    // The page's policy lets no data: address in, and it has one script, so there is nothing to preload.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
})
