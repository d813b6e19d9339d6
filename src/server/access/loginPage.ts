import { createHash } from 'node:crypto'
import { escapeHtml } from '../escapeHtml.ts'
import { PAGE_HEADERS, pagePolicy } from './headers.ts'

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { display: grid; place-items: center; min-height: 100vh; margin: 0; }
main { width: min(22rem, calc(100vw - 3rem)); }
h1 { font-size: 1.25rem; }
label { display: block; margin-bottom: 0.25rem; }
input, button { box-sizing: border-box; width: 100%; padding: 0.6rem 0.75rem; font: inherit; border-radius: 0.375rem; border: 1px solid #767676; }
button { margin-top: 1rem; background: #1f5fbf; border-color: #1f5fbf; color: #fff; cursor: pointer; }
:focus-visible { outline: 3px solid #5c9dff; outline-offset: 2px; }
[role=alert] { border-left: 4px solid #c62828; padding-left: 0.75rem; }
`

/** It needs nothing from anywhere else, so that whoever is not logged in gets no other file. */
export const LOGIN_PAGE_HEADERS = {
  ...PAGE_HEADERS,
  'content-security-policy': pagePolicy(`'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`),
  'cache-control': 'no-store',
}

export interface LoginPage {
  /** Where the forms are sent. */
  readonly loginPath: string
  readonly logoutPath: string
  /** Where the browser goes next. */
  readonly next: string
  readonly isLoggedIn: boolean
  /** Why the login was refused. */
  readonly message?: string
}

export function renderLoginPage(page: LoginPage): string {
  const { message } = page
  const alert = message === undefined ? '' : `<p role="alert">${escapeHtml(message)}</p>`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · Tether</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>Tether</h1>
${alert}
${page.isLoggedIn ? logoutForm(page) : loginForm(page)}
</main>
</body>
</html>
`
}

function loginForm({ loginPath, next, message }: LoginPage): string {
  return `<form method="post" action="${escapeHtml(loginPath)}">
<input type="hidden" name="next" value="${escapeHtml(next)}">
<label for="token">API token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus${message === undefined ? '' : ' aria-invalid="true"'}>
<button type="submit">Log in</button>
</form>`
}

function logoutForm({ logoutPath, next }: LoginPage): string {
  return `<p>You are logged in. <a href="${escapeHtml(next)}">Go on</a></p>
<form method="post" action="${escapeHtml(logoutPath)}">
<button type="submit">Log out</button>
</form>`
}
