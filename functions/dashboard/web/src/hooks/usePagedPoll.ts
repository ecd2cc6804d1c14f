// A list that comes in pages: polling reloads all pages on screen, so that an
// item that changed or moved is neither stale nor lost, and "Load more" adds
// the next one. Far down the list polling rests, to spare the server.

import { useCallback, useRef, useState } from "react";
import { isAbort } from "../api/client";
import type { Page } from "../api/types";
import { POLL_MS, usePoll } from "./usePoll";

const LIVE_PAGES = 5;

export interface PagedPoll<T> {
  items: T[] | undefined;
  error: unknown;
  loading: boolean;
  hasMore: boolean;
  /** What this search can't find, if it says so. */
  limited: string | undefined;
  loadingMore: boolean;
  /** False when so much is loaded that it is no longer refreshed by itself. */
  live: boolean;
  loadMore: () => void;
  refresh: () => void;
}

export function usePagedPoll<T>(
  key: string,
  idOf: (item: T) => string,
  fetchPage: (cursor: string | null, signal?: AbortSignal) => Promise<Page<T>>,
  interval: number = POLL_MS,
): PagedPoll<T> {
  const [shown, setShown] = useState({ key, pages: 1 });
  const pages = shown.key === key ? shown.pages : 1;
  const wanted = useRef({ key, pages });
  wanted.current = { key, pages };
  const [more, setMore] = useState<{ key: string; busy: boolean; error?: unknown }>({
    key,
    busy: false,
  });
  const live = pages <= LIVE_PAGES;

  const poll = usePoll<Page<T>>(
    key,
    async (signal) => {
      let result = await fetchPage(null, signal);
      for (
        let page = 1;
        page < wanted.current.pages && typeof result.next_cursor === "string";
        page += 1
      ) {
        result = append(result, await fetchPage(result.next_cursor, signal), idOf);
      }
      return result;
    },
    live ? interval : 0,
  );

  const { data, replace } = poll;
  const loadMore = useCallback(async () => {
    if (typeof data?.next_cursor !== "string") return;
    setMore({ key, busy: true });
    try {
      const next = await fetchPage(data.next_cursor);
      // The filter may have changed meanwhile: then this page belongs nowhere.
      if (wanted.current.key !== key) return;
      setShown({ key, pages: wanted.current.pages + 1 });
      replace(append(data, next, idOf));
      setMore({ key, busy: false });
    } catch (error) {
      if (!isAbort(error)) setMore({ key, busy: false, error });
    }
  }, [data, replace, fetchPage, idOf, key]);

  const current = more.key === key ? more : { busy: false, error: undefined };
  return {
    items: data?.items,
    error: poll.error ?? current.error,
    loading: poll.loading,
    // A server that has no pages may leave the cursor out.
    hasMore: typeof data?.next_cursor === "string",
    limited: data?.limited,
    loadingMore: current.busy,
    live,
    loadMore: () => void loadMore(),
    refresh: poll.refresh,
  };
}

function append<T>(before: Page<T>, next: Page<T>, idOf: (item: T) => string): Page<T> {
  const known = new Set(before.items.map(idOf));
  return {
    ...next,
    items: [...before.items, ...next.items.filter((item) => !known.has(idOf(item)))],
  };
}
