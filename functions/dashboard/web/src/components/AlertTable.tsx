// Alerts as rows: the sentence that says what happened stands right under the
// title, because that is what decides whether to open it.

import type { Alert } from "../api/types";
import { gist } from "../lib/gist";
import { href } from "../lib/router";
import { AlertStateBadge, AlertTitle, LevelBadge } from "./Badges";
import { Place, Principal } from "./Principal";
import { type Column, Table } from "./Table";
import { Time } from "./Time";

/** `at least 10,000 events` when more matched than the alert remembers. */
export function eventCount(alert: Pick<Alert, "event_count" | "at_least">): string {
  const amount = alert.event_count.toLocaleString("en-GB");
  return alert.at_least ? `at least ${amount}` : amount;
}

const COLUMNS: Column<Alert>[] = [
  {
    header: "Level",
    className: "col-level",
    cell: (alert) => <LevelBadge level={alert.level} />,
  },
  {
    header: "Alert",
    className: "col-main",
    cell: (alert) => (
      <>
        <a className="row-title" href={href(["alerts", alert.alert_id])}>
          <AlertTitle alert={alert} />
        </a>
        {gist(alert) !== null && <p className="row-reason clamped">{gist(alert)}</p>}
      </>
    ),
  },
  {
    header: "Principal",
    className: "col-principal",
    cell: (alert) => (
      <>
        <Principal arn={alert.principal} />
        <Place account={alert.account} region={alert.region} />
      </>
    ),
  },
  { header: "Events", className: "col-number", cell: eventCount },
  { header: "Time (UTC)", className: "col-time", cell: (alert) => <Time at={alert.time} /> },
  {
    header: "State",
    className: "col-state",
    cell: (alert) => <AlertStateBadge alert={alert} />,
  },
];

export function AlertTable({ alerts, caption }: { alerts: Alert[]; caption: string }) {
  return (
    <Table caption={caption} columns={COLUMNS} items={alerts} idOf={(alert) => alert.alert_id} />
  );
}
