// What CloudSentinel did, would do, or wants to do about access keys.

import { listResponses } from "../api/endpoints";
import type { ContainmentResponse } from "../api/types";
import { ResponseBadge } from "../components/Badges";
import { EmptyState } from "../components/EmptyState";
import { ErrorBanner } from "../components/ErrorBanner";
import { Select } from "../components/Fields";
import { Loading } from "../components/Loading";
import { LoadMore } from "../components/LoadMore";
import { PageHead } from "../components/PageHead";
import { Principal } from "../components/Principal";
import { ResponseActions } from "../components/ResponseActions";
import { type Column, Table } from "../components/Table";
import { Time } from "../components/Time";
import { usePagedPoll } from "../hooks/usePagedPoll";
import { setFilter } from "../hooks/useQueryFilter";
import { headline, meaning, RESPONSE_STATES } from "../lib/responses";
import { href } from "../lib/router";
import { useUser } from "../session";

const STATE_OPTIONS: [string, string][] = [
  ["", "Any state"],
  ...RESPONSE_STATES.map((state): [string, string] => [state, meaning(state).label]),
];

export function ResponsesPage({ query }: { query: URLSearchParams }) {
  const state = query.get("state") ?? "";
  const user = useUser();
  const list = usePagedPoll(
    `responses?${state}`,
    (response: ContainmentResponse) => response.response_id,
    (cursor, signal) => listResponses({ state, cursor }, signal),
  );

  const columns: Column<ContainmentResponse>[] = [
    {
      header: "State",
      className: "col-level",
      cell: (response) => <ResponseBadge state={response.state} />,
    },
    {
      header: "Response",
      className: "col-main",
      cell: (response) => (
        <>
          <a className="row-title" href={href(["responses", response.response_id])}>
            {headline(response)}
          </a>
          <p className="row-reason">{response.reasons[0] ?? meaning(response.state).sentence}</p>
        </>
      ),
    },
    {
      header: "Principal",
      className: "col-principal",
      cell: (response) => (
        <>
          <Principal arn={response.principal} />
          <p className="muted">{response.account}</p>
        </>
      ),
    },
    {
      header: "Requested (UTC)",
      className: "col-time",
      cell: (response) => <Time at={response.requested_at} />,
    },
  ];
  if (user.role === "admin") {
    columns.push({
      header: "Decide",
      className: "col-state",
      cell: (response) => (
        <ResponseActions response={response} onDecided={list.refresh} onConflict={list.refresh} />
      ),
    });
  }

  return (
    <>
      <PageHead title="Responses" />
      <search className="filters">
        <Select
          label="State"
          value={state}
          options={STATE_OPTIONS}
          onChange={(value) => setFilter("state", value)}
        />
      </search>
      <ErrorBanner error={list.error} onRetry={list.refresh} stale={list.items !== undefined} />
      {list.loading && <Loading what="responses" />}
      {list.items !== undefined &&
        (list.items.length === 0 && !list.hasMore ? (
          <EmptyState title={state === "" ? "No responses yet." : "No response is in this state."}>
            {state !== "" && <a href={href(["responses"])}>Show all</a>}
          </EmptyState>
        ) : (
          <>
            <Table
              caption="Responses, newest first"
              columns={columns}
              items={list.items}
              idOf={(response) => response.response_id}
            />
            <LoadMore list={list} one="response" />
          </>
        ))}
    </>
  );
}
