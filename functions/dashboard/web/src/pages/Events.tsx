// Full-text search in the stored CloudTrail records, for questions that no
// alert answers. It asks only when told to, and isn't refreshed by itself.

import { type FormEvent, useState } from "react";
import { searchEvents } from "../api/endpoints";
import type { FoundEvent } from "../api/types";
import { EmptyState } from "../components/EmptyState";
import { ErrorBanner } from "../components/ErrorBanner";
import { Input } from "../components/Fields";
import { Limited } from "../components/Limited";
import { Loading } from "../components/Loading";
import { LoadMore } from "../components/LoadMore";
import { PageHead } from "../components/PageHead";
import { Place, Principal } from "../components/Principal";
import { RawRecord } from "../components/RawRecord";
import { Time } from "../components/Time";
import { usePagedPoll } from "../hooks/usePagedPoll";
import { href, replace } from "../lib/router";

const PAGE = 50;
const FIELDS = ["q", "account", "from", "to"] as const;
type Draft = Record<(typeof FIELDS)[number], string>;

function draftOf(query: URLSearchParams): Draft {
  const value = (name: string) => query.get(name) ?? "";
  return { q: value("q"), account: value("account"), from: value("from"), to: value("to") };
}

/** A `datetime-local` value, which has no zone, read as UTC. */
export function asUtc(local: string): string {
  if (local === "") return "";
  const time = new Date(`${local}Z`);
  return Number.isNaN(time.getTime()) ? local : time.toISOString().replace(".000Z", "Z");
}

export function EventsPage({ query }: { query: URLSearchParams }) {
  const address = query.toString();
  // The key makes the form follow the address when somebody goes back.
  return (
    <>
      <PageHead title="Events" />
      <SearchForm key={address} start={draftOf(query)} />
      <Results key={`results ${address}`} asked={draftOf(query)} />
    </>
  );
}

function SearchForm({ start }: { start: Draft }) {
  const [draft, setDraft] = useState(start);
  const edit = (name: keyof Draft) => (value: string) => setDraft({ ...draft, [name]: value });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    replace(href(["events"], { ...draft, q: draft.q.trim(), account: draft.account.trim() }));
  };
  return (
    <search>
      <form className="filters" onSubmit={submit}>
        <Input
          label="Text"
          type="search"
          placeholder="Action, key, address, principal…"
          value={draft.q}
          onChange={edit("q")}
        />
        <Input label="AWS account" value={draft.account} onChange={edit("account")} />
        <Input
          label="From (UTC)"
          type="datetime-local"
          value={draft.from}
          onChange={edit("from")}
        />
        <Input label="To (UTC)" type="datetime-local" value={draft.to} onChange={edit("to")} />
        <button type="submit" className="button button-primary">
          Search
        </button>
      </form>
    </search>
  );
}

function Results({ asked }: { asked: Draft }) {
  const list = usePagedPoll(
    `events?${JSON.stringify(asked)}`,
    (event: FoundEvent) => event.event_id,
    (cursor, signal) => {
      const query = { ...asked, from: asUtc(asked.from), to: asUtc(asked.to), limit: PAGE, cursor };
      return searchEvents(query, signal);
    },
    0,
  );
  if (list.loading) return <Loading what="events" />;
  if (list.items === undefined) return <ErrorBanner error={list.error} onRetry={list.refresh} />;
  if (list.items.length === 0 && !list.hasMore) {
    return list.limited === undefined ? (
      <EmptyState title="No event fits.">
        The search looks for whole words in the stored CloudTrail records.
      </EmptyState>
    ) : (
      <Limited why={list.limited} />
    );
  }
  return (
    <>
      <Limited why={list.limited} />
      <ErrorBanner error={list.error} onRetry={list.loadMore} stale />
      <ul className="cards">
        {list.items.map((event) => (
          <Found key={event.event_id} event={event} />
        ))}
      </ul>
      <LoadMore list={list} one="event" />
    </>
  );
}

function Found({ event }: { event: FoundEvent }) {
  return (
    <li className="card">
      <div className="card-head">
        <strong className="action">{event.action}</strong>
        <Time at={event.time} />
      </div>
      <p>
        <Principal arn={event.principal} />
        {event.source_ip !== null && <> from {event.source_ip}</>}
      </p>
      <Place account={event.account} region={event.region} />
      <RawRecord record={event.raw} title="Raw record" />
    </li>
  );
}
