// A hash router small enough to own: the server only ever serves one page, and
// every view (filters included) has an address that can be shared.

import { useMemo, useSyncExternalStore } from "react";

export interface Route {
  /** Decoded path segments: `#/alerts/a1` is `["alerts", "a1"]`. */
  path: string[];
  query: URLSearchParams;
}

export function parseHash(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return {
    path: path
      .split("/")
      .filter((part) => part !== "")
      .map(decode),
    query: new URLSearchParams(query),
  };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    // A hand-typed address with a stray percent sign: take it literally.
    return part;
  }
}

/** Address of a view; empty query values are left out. */
export function href(path: string[], query: Record<string, string> = {}): string {
  const params = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ""));
  const text = params.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text === "" ? "" : `?${text}`}`;
}

/** Changes the address without a new history entry (typing in a filter). */
export function replace(target: string): void {
  history.replaceState(null, "", target);
  window.dispatchEvent(new Event("hashchange"));
}

function subscribe(changed: () => void): () => void {
  window.addEventListener("hashchange", changed);
  return () => window.removeEventListener("hashchange", changed);
}

export function useRoute(): Route {
  const hash = useSyncExternalStore(subscribe, () => window.location.hash);
  return useMemo(() => parseHash(hash), [hash]);
}
