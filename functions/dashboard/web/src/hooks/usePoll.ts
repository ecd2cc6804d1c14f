// Loads something, keeps it fresh every ten seconds while the tab is visible,
// and never throws away what is already on screen because a refresh failed.

import { useCallback, useEffect, useRef, useState } from "react";
import { isAbort } from "../api/client";

export const POLL_MS = 10_000;

export interface Poll<T> {
  data: T | undefined;
  /** The last refresh's failure; `data` may still hold the state before it. */
  error: unknown;
  /** True until the first answer, good or bad. */
  loading: boolean;
  refresh: () => void;
  /** Puts a newer value in place, as a change's answer. */
  replace: (data: T) => void;
}

interface State<T> {
  key: string;
  data?: T;
  error?: unknown;
}

/**
 * `key` says what is loaded: when it changes, the old data no longer counts.
 * `interval` of 0 loads once; as a function it depends on what is shown.
 */
export function usePoll<T>(
  key: string,
  load: (signal: AbortSignal) => Promise<T>,
  interval: number | ((shown: T | undefined) => number) = POLL_MS,
): Poll<T> {
  const [state, setState] = useState<State<T>>({ key: "" });
  const shown = state.key === key ? state.data : undefined;
  const pause = typeof interval === "number" ? interval : interval(shown);
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  useEffect(() => {
    latest.current = load;
  });
  // Counts local changes: an answer asked for before one is out of date.
  const changes = useRef(0);
  // The round that has had its answer: a new pause alone must not ask again.
  const answered = useRef("");

  useEffect(() => {
    const controller = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let running = false;
    const round = `${turn} ${key}`;

    const run = async () => {
      clearTimeout(timer);
      timer = undefined;
      running = true;
      const asked = changes.current;
      try {
        const data = await latest.current(controller.signal);
        if (!controller.signal.aborted && asked === changes.current) setState({ key, data });
      } catch (error) {
        if (!controller.signal.aborted && !isAbort(error)) {
          setState((old) =>
            old.key === key && old.data !== undefined
              ? { key, data: old.data, error }
              : { key, error },
          );
        }
      }
      running = false;
      if (controller.signal.aborted) return;
      answered.current = round;
      schedule();
    };
    const schedule = () => {
      if (pause > 0) timer = setTimeout(tick, pause);
    };
    const tick = () => {
      timer = undefined;
      if (document.visibilityState !== "hidden") void run();
    };
    const visible = () => {
      if (pause > 0 && !running && timer === undefined) tick();
    };

    if (answered.current === round) schedule();
    else void run();
    document.addEventListener("visibilitychange", visible);
    return () => {
      controller.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", visible);
    };
  }, [key, pause, turn]);

  const refresh = useCallback(() => setTurn((old) => old + 1), []);
  const replace = useCallback(
    (data: T) => {
      changes.current += 1;
      setState({ key, data });
    },
    [key],
  );

  const current = state.key === key;
  return {
    data: current ? state.data : undefined,
    error: current ? state.error : undefined,
    loading: !current,
    refresh,
    replace,
  };
}
