// Incidents: what belongs together as one intruder's doing, newest first.

import { listIncidents } from "../api/endpoints";
import type { Incident } from "../api/types";
import { LevelBadge } from "../components/Badges";
import { EmptyState } from "../components/EmptyState";
import { ErrorBanner } from "../components/ErrorBanner";
import { Select } from "../components/Fields";
import { Loading } from "../components/Loading";
import { LoadMore } from "../components/LoadMore";
import { PageHead } from "../components/PageHead";
import { type Column, Table } from "../components/Table";
import { Time } from "../components/Time";
import { usePagedPoll } from "../hooks/usePagedPoll";
import { setFilter } from "../hooks/useQueryFilter";
import { capital, principalName, span } from "../lib/format";
import { LEVEL_OPTIONS } from "../lib/levels";
import { href } from "../lib/router";

const COLUMNS: Column<Incident>[] = [
  {
    header: "Level",
    className: "col-level",
    cell: (incident) => <LevelBadge level={incident.level} />,
  },
  {
    header: "Incident",
    className: "col-main",
    cell: (incident) => (
      <>
        <a className="row-title" href={href(["incidents", incident.incident_id])}>
          {capital(incident.title)}
        </a>
        {incident.summary[0] !== undefined && <p className="row-reason">{incident.summary[0]}</p>}
      </>
    ),
  },
  {
    header: "Principals",
    className: "col-principal",
    cell: (incident) => (
      <>
        {incident.principals.map(principalName).join(", ")}
        <p className="muted">{incident.accounts.join(", ")}</p>
      </>
    ),
  },
  { header: "Alerts", className: "col-number", cell: (incident) => incident.alert_count },
  {
    header: "Last event (UTC)",
    className: "col-time",
    cell: (incident) => <Time at={incident.time_last} />,
  },
  {
    header: "Lasted",
    className: "col-state",
    cell: (incident) => span(incident.time_first, incident.time_last),
  },
];

export function IncidentsPage({ query }: { query: URLSearchParams }) {
  const level = query.get("level") ?? "";
  const list = usePagedPoll(
    `incidents?${level}`,
    (incident: Incident) => incident.incident_id,
    (cursor, signal) => listIncidents({ level, limit: 50, cursor }, signal),
  );
  return (
    <>
      <PageHead title="Incidents" />
      <search className="filters">
        <Select
          label="Level"
          value={level}
          options={LEVEL_OPTIONS}
          onChange={(value) => setFilter("level", value)}
        />
      </search>
      <ErrorBanner error={list.error} onRetry={list.refresh} stale={list.items !== undefined} />
      {list.loading && <Loading what="incidents" />}
      {list.items !== undefined &&
        (list.items.length === 0 && !list.hasMore ? (
          <EmptyState
            title={level === "" ? "No incidents." : "No incident is of this level or above."}
          />
        ) : (
          <>
            <Table
              caption="Incidents, newest first"
              columns={COLUMNS}
              items={list.items}
              idOf={(incident) => incident.incident_id}
            />
            <LoadMore list={list} one="incident" />
          </>
        ))}
    </>
  );
}
