// Keeps the session's token: in memory, and in sessionStorage so that a reload
// of the same tab stays signed in. Never in localStorage or a cookie: it ends
// with the tab and is not sent by the browser on its own.

const KEY = "cloudsentinel.token";
let current: string | null = null;

export function getToken(): string | null {
  if (current !== null) return current;
  try {
    current = sessionStorage.getItem(KEY);
  } catch {
    // Storage may be forbidden by the browser; memory alone still works.
  }
  return current;
}

export function setToken(token: string | null): void {
  current = token;
  try {
    if (token === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, token);
  } catch {
    // See getToken: without storage the session lasts until the next reload.
  }
}
