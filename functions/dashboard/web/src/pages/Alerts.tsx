// All alerts, newest first, narrowed down by level, state and text. Filters
// that other pages link to (a principal, an account, a rule) show as chips.

import { listAlerts } from "../api/endpoints";
import type { Alert } from "../api/types";
import { AlertTable } from "../components/AlertTable";
import { EmptyState } from "../components/EmptyState";
import { ErrorBanner } from "../components/ErrorBanner";
import { Input, Select } from "../components/Fields";
import { Limited } from "../components/Limited";
import { Loading } from "../components/Loading";
import { LoadMore } from "../components/LoadMore";
import { PageHead } from "../components/PageHead";
import { usePagedPoll } from "../hooks/usePagedPoll";
import { setFilter, useTextFilter } from "../hooks/useQueryFilter";
import { label } from "../lib/format";
import { LEVEL_OPTIONS } from "../lib/levels";
import { href } from "../lib/router";

const PAGE = 50;
const STATES: [string, string][] = [
  ["", "Any state"],
  ["new", "New"],
  ["acknowledged", "Acknowledged"],
  ["closed", "Closed"],
];
const CHIPS = ["principal", "account", "rule", "from", "to"];
const FILTERS = ["level", "state", "q", ...CHIPS];

export function AlertsPage({ query }: { query: URLSearchParams }) {
  const filter = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const filtered = Object.values(filter).some((value) => value !== "");
  const [text, setText] = useTextFilter("q", filter.q ?? "");
  const list = usePagedPoll(
    `alerts?${JSON.stringify(filter)}`,
    (alert: Alert) => alert.alert_id,
    (cursor, signal) => listAlerts({ ...filter, limit: PAGE, cursor }, signal),
  );

  return (
    <>
      <PageHead title="Alerts" />
      <search className="filters">
        <Select
          label="Level"
          value={filter.level ?? ""}
          options={LEVEL_OPTIONS}
          onChange={(value) => setFilter("level", value)}
        />
        <Select
          label="State"
          value={filter.state ?? ""}
          options={STATES}
          onChange={(value) => setFilter("state", value)}
        />
        <Input
          label="Text"
          type="search"
          placeholder="Title, principal, address, key…"
          value={text}
          onChange={setText}
        />
      </search>
      {CHIPS.some((name) => filter[name] !== "") && (
        <ul className="chips">
          {CHIPS.filter((name) => filter[name] !== "").map((name) => (
            <li key={name}>
              <button type="button" className="chip" onClick={() => setFilter(name, "")}>
                {label(name)}: {filter[name]} <span aria-hidden="true">×</span>
                <span className="visually-hidden">remove this filter</span>
              </button>
            </li>
          ))}
        </ul>
      )}
      <ErrorBanner
        error={list.error}
        onRetry={list.refresh}
        stale={list.items !== undefined && list.items.length > 0}
      />
      {list.loading && <Loading what="alerts" />}
      <Limited why={list.limited} />
      {list.items !== undefined &&
        (list.items.length === 0 && !list.hasMore ? (
          <EmptyState title={filtered ? "No alert fits these filters." : "No alerts yet."}>
            {filtered ? (
              <a href={href(["alerts"])}>Remove all filters</a>
            ) : (
              "Send CloudTrail logs to the watched folder or to POST /api/v1/logs."
            )}
          </EmptyState>
        ) : (
          <>
            <AlertTable alerts={list.items} caption="Alerts, newest first" />
            <LoadMore list={list} one="alert" />
          </>
        ))}
    </>
  );
}
