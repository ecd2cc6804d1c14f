// Filters that live in the address, so that a filtered list can be shared and
// survives a reload. Typed text waits for a pause before it counts.

import { useEffect, useRef, useState } from "react";
import { href, parseHash, replace } from "../lib/router";

const PAUSE_MS = 300;

/** Sets one filter of the list on screen; an empty value removes it. */
export function setFilter(name: string, value: string): void {
  const { path, query } = parseHash(window.location.hash);
  const next = Object.fromEntries(query);
  next[name] = value;
  replace(href(path, next));
}

/** A text filter: what is typed shows at once, the address follows. */
export function useTextFilter(name: string, current: string): [string, (text: string) => void] {
  const [text, setText] = useState(current);
  const pending = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);

  // Back and forward change the address under us: show what it says.
  useEffect(() => {
    if (pending.current === undefined) setText(current);
  }, [current]);
  useEffect(
    () => () => {
      clearTimeout(pending.current);
      pending.current = undefined;
    },
    [],
  );

  const change = (next: string) => {
    setText(next);
    clearTimeout(pending.current);
    pending.current = setTimeout(() => {
      pending.current = undefined;
      setFilter(name, next.trim());
    }, PAUSE_MS);
  };
  return [text, change];
}
