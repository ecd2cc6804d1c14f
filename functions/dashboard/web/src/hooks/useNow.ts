// One shared clock for all relative times on screen, instead of a timer each.

import { useSyncExternalStore } from "react";

const STEP_MS = 15_000;
let timer: ReturnType<typeof setInterval> | undefined;
const listeners = new Set<() => void>();

function subscribe(changed: () => void): () => void {
  listeners.add(changed);
  if (timer === undefined) {
    timer = setInterval(() => {
      for (const listener of listeners) listener();
    }, STEP_MS);
  }
  return () => {
    listeners.delete(changed);
    if (listeners.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
}

/** Whole seconds, because a snapshot must stay the same while React compares it. */
function snapshot(): number {
  return Math.floor(Date.now() / 1000) * 1000 + 999;
}

/**
 * The current time in milliseconds, never behind: what was loaded just now
 * would otherwise seem to lie ahead. Without other reasons to draw it is
 * renewed every 15 seconds.
 */
export function useNow(): number {
  return useSyncExternalStore(subscribe, snapshot);
}
