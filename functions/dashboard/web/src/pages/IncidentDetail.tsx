// One incident as a story: what happened in sentences, then step by step in
// time order, with what was done about it.

import { getIncident } from "../api/endpoints";
import type { Alert, IncidentDetail } from "../api/types";
import { AttackTags } from "../components/AttackTags";
import { AlertTitle, LevelBadge, SupersededBadge } from "../components/Badges";
import { Copy } from "../components/Copy";
import { EmptyState } from "../components/EmptyState";
import { ErrorBanner } from "../components/ErrorBanner";
import { Facts } from "../components/Facts";
import { Loading } from "../components/Loading";
import { PageHead } from "../components/PageHead";
import { Principal } from "../components/Principal";
import { ResponseList } from "../components/ResponseList";
import { Section, Sentences } from "../components/Section";
import { Time } from "../components/Time";
import { Timeline } from "../components/Timeline";
import { usePoll } from "../hooks/usePoll";
import { capital, count, span } from "../lib/format";
import { gist } from "../lib/gist";
import { href } from "../lib/router";

const PARENT = { href: href(["incidents"]), text: "Incidents" };

/** Oldest first; alerts of the same moment by id, so that they never jump. */
export function inTimeOrder(alerts: Alert[]): Alert[] {
  return [...alerts].sort(
    (a, b) =>
      new Date(a.time).getTime() - new Date(b.time).getTime() ||
      a.alert_id.localeCompare(b.alert_id),
  );
}

export function IncidentDetailPage({ incidentId }: { incidentId: string }) {
  const poll = usePoll(`incident:${incidentId}`, (signal) => getIncident(incidentId, signal));
  const incident = poll.data;
  return (
    <>
      <PageHead
        title={capital(incident?.title ?? "Incident")}
        parent={PARENT}
        aside={incident !== undefined && <LevelBadge level={incident.level} />}
      />
      <ErrorBanner error={poll.error} onRetry={poll.refresh} stale={incident !== undefined} />
      {poll.loading && <Loading what="the incident" />}
      {incident !== undefined && <Body incident={incident} />}
    </>
  );
}

function Body({ incident }: { incident: IncidentDetail }) {
  return (
    <>
      <Section title="What happened">
        <Sentences items={incident.summary} />
        <AttackTags attack={incident.attack} />
      </Section>
      <div className="columns columns-story">
        <Section title="Timeline">
          <Timeline
            label="Alerts of this incident, oldest first"
            moments={inTimeOrder(incident.alerts).map(momentOf)}
          />
          {incident.alerts.length < incident.alert_ids.length && (
            <p className="muted">
              {incident.alerts.length} of {count(incident.alert_ids.length, "alert")} shown.
            </p>
          )}
        </Section>
        <div>
          <Section title="Responses">
            {incident.responses.length === 0 ? (
              <EmptyState title="No response was planned." />
            ) : (
              <ResponseList responses={incident.responses} />
            )}
          </Section>
          <Section title="Who, where, when">
            <Facts
              facts={[
                [
                  "Principals",
                  incident.principals.map((arn) => <Principal key={arn} arn={arn} full />),
                ],
                ["AWS accounts", incident.accounts.join(", ")],
                ["Source addresses", incident.source_ips.join(", ")],
                ["First event", <Time key="first" at={incident.time_first} />],
                ["Last event", <Time key="last" at={incident.time_last} />],
                ["Lasted", span(incident.time_first, incident.time_last)],
                [
                  "Size",
                  `${count(incident.alert_count, "alert")}, ${count(incident.event_count, "event")}`,
                ],
                ["Score", incident.score.toFixed(2)],
                ["Incident id", <Copy key="id" text={incident.incident_id} what="incident id" />],
              ]}
            />
          </Section>
        </div>
      </div>
    </>
  );
}

function momentOf(alert: Alert) {
  return {
    id: alert.alert_id,
    at: alert.time,
    mark: `level-${alert.level}`,
    title: (
      <>
        <LevelBadge level={alert.level} />{" "}
        <a href={href(["alerts", alert.alert_id])}>
          <AlertTitle alert={alert} />
        </a>{" "}
        <SupersededBadge alert={alert} />
      </>
    ),
    text: (
      <>
        {gist(alert) !== null && <p>{gist(alert)}</p>}
        <p className="muted">
          <Principal arn={alert.principal} />
          {alert.source_ip !== null && <> from {alert.source_ip}</>}
        </p>
      </>
    ),
  };
}
