// The end of a paged list: a button for the next page, and a word when the
// list no longer refreshes by itself.

import type { PagedPoll } from "../hooks/usePagedPoll";

export function LoadMore<T>({ list, noun }: { list: PagedPoll<T>; noun: string }) {
  return (
    <div className="load-more">
      <p className="muted" aria-live="polite">
        {list.items?.length ?? 0} {noun} shown
        {list.hasMore ? "" : ", that is all"}.
        {!list.live && " So far down, the list no longer refreshes by itself."}
      </p>
      {list.hasMore && (
        <button
          type="button"
          className="button"
          disabled={list.loadingMore}
          onClick={list.loadMore}
        >
          {list.loadingMore ? "Loading…" : "Load more"}
        </button>
      )}
      {!list.live && (
        <button type="button" className="button" onClick={list.refresh}>
          Refresh now
        </button>
      )}
    </div>
  );
}
