// The end of a paged list: a button for the next page, and a word when the
// list no longer refreshes by itself.

import type { PagedPoll } from "../hooks/usePagedPoll";
import { count } from "../lib/format";

export function LoadMore<T>({ list, one }: { list: PagedPoll<T>; one: string }) {
  return (
    <div className="load-more">
      <p className="muted" aria-live="polite">
        {count(list.items?.length ?? 0, one)} shown
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
