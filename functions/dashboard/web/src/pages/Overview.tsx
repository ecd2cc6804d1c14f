// The first look: does anything wait for me, what has been contained, what is
// new, and is CloudSentinel itself in order.

import { getStats, listAlerts, listIncidents, listResponses } from "../api/endpoints";
import type { Health, Level, Stats } from "../api/types";
import { AlertTable } from "../components/AlertTable";
import { LevelBadge } from "../components/Badges";
import { EmptyState } from "../components/EmptyState";
import { ErrorBanner } from "../components/ErrorBanner";
import { KillSwitch } from "../components/KillSwitch";
import { Loading } from "../components/Loading";
import { PageHead } from "../components/PageHead";
import { Principal } from "../components/Principal";
import { ResponseList } from "../components/ResponseList";
import { Section } from "../components/Section";
import { usePoll } from "../hooks/usePoll";
import { capital, count, label } from "../lib/format";
import { LEVELS } from "../lib/levels";
import { href } from "../lib/router";
import { useSession } from "../session";

const LATEST = 8;

/** Everything the page shows, asked for at once so that it belongs together. */
async function load(signal: AbortSignal) {
  const [stats, alerts, incidents, waiting, people, contained] = await Promise.all([
    getStats(signal),
    listAlerts({ limit: LATEST }, signal),
    listIncidents({ limit: 3 }, signal),
    listResponses({ state: "awaiting_approval" }, signal),
    listResponses({ state: "recorded" }, signal),
    listResponses({ state: "contained" }, signal),
  ]);
  return {
    stats,
    alerts: alerts.items,
    incidents: incidents.items,
    waiting: [...waiting.items, ...people.items],
    contained: contained.items,
  };
}

export function OverviewPage() {
  const { health } = useSession();
  const { data, error, loading, refresh } = usePoll("overview", load);

  return (
    <>
      <PageHead title="Overview" />
      <ErrorBanner error={error} onRetry={refresh} stale={data !== undefined} />
      {loading && <Loading what="the overview" />}
      {data !== undefined && (
        <>
          <Tiles stats={data.stats} health={health} />
          {data.waiting.length > 0 && (
            <Section title="Waiting for a person">
              <ResponseList responses={data.waiting} />
            </Section>
          )}
          <Section title="Contained keys" aside={<a href={href(["responses"])}>All responses</a>}>
            {data.contained.length === 0 ? (
              <EmptyState title="No key is contained at the moment." />
            ) : (
              <ResponseList responses={data.contained} />
            )}
          </Section>
          <Section title="Latest incidents" aside={<a href={href(["incidents"])}>All incidents</a>}>
            {data.incidents.length === 0 ? (
              <EmptyState title="No incidents." />
            ) : (
              <ul className="cards">
                {data.incidents.map((incident) => (
                  <li key={incident.incident_id} className="card">
                    <div className="card-head">
                      <LevelBadge level={incident.level} />
                      <span className="muted">
                        {count(incident.alert_count, "alert")},{" "}
                        {count(incident.event_count, "event")}
                      </span>
                    </div>
                    <a className="card-title" href={href(["incidents", incident.incident_id])}>
                      {capital(incident.title)}
                    </a>
                    {incident.summary[0] !== undefined && <p>{incident.summary[0]}</p>}
                  </li>
                ))}
              </ul>
            )}
          </Section>
          <Section title="Latest alerts" aside={<a href={href(["alerts"])}>All alerts</a>}>
            {data.alerts.length === 0 ? (
              <EmptyState title="No alerts yet.">
                Send CloudTrail logs to the watched folder or to POST /api/v1/logs.
              </EmptyState>
            ) : (
              <AlertTable alerts={data.alerts} caption="Latest alerts" />
            )}
          </Section>
          <div className="columns">
            <TopPrincipals stats={data.stats} />
            <Machinery stats={data.stats} health={health} />
          </div>
        </>
      )}
    </>
  );
}

const MODES: Record<Health["response_mode"], string> = {
  observe: "Records what it would do and changes nothing.",
  approve: "Acts only after an administrator approves.",
  automatic: "Acts by itself where the playbook and the evidence allow it.",
};

function Tiles({ stats, health }: { stats: Stats; health: Health | undefined }) {
  const states = stats.alerts_by_state;
  return (
    <div className="tiles">
      <section className="tile" aria-label="Response mode">
        <h2>Response mode</h2>
        <p className="tile-value">{health === undefined ? "…" : label(health.response_mode)}</p>
        <p className="muted">{health === undefined ? "" : MODES[health.response_mode]}</p>
        <KillSwitch />
      </section>
      <section className="tile" aria-label="Open incidents">
        <h2>Open incidents</h2>
        <p className="tile-value">
          <a href={href(["incidents"])}>{stats.incidents_open}</a>
        </p>
        <p className="muted">
          {count(states.new ?? 0, "new alert")}, {states.acknowledged ?? 0} acknowledged,{" "}
          {states.closed ?? 0} closed
        </p>
      </section>
      <section className="tile tile-wide" aria-label="Alerts by level">
        <h2>Alerts by level</h2>
        <ul className="levels">
          {LEVELS.map((level) => (
            <LevelCount key={level} level={level} amount={stats.alerts_by_level[level] ?? 0} />
          ))}
        </ul>
        {stats.truncated === true && <p className="muted">Of the newest alerts only.</p>}
      </section>
    </div>
  );
}

function LevelCount({ level, amount }: { level: Level; amount: number }) {
  return (
    <li className={amount === 0 ? "level-none" : undefined}>
      <a href={href(["alerts"], { level })} title={`Alerts of level ${level} and above`}>
        <span className="level-amount">{amount.toLocaleString("en-GB")}</span>
        <LevelBadge level={level} />
      </a>
    </li>
  );
}

function TopPrincipals({ stats }: { stats: Stats }) {
  return (
    <Section title="Principals with most alerts">
      {stats.top_principals.length === 0 ? (
        <EmptyState title="None." />
      ) : (
        <ul className="rows">
          {stats.top_principals.map(({ principal, alerts }) => (
            <li key={principal}>
              <a href={href(["alerts"], { principal })}>
                <Principal arn={principal} />
              </a>
              <span>{count(alerts, "alert")}</span>
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}

function Machinery({ stats, health }: { stats: Stats; health: Health | undefined }) {
  const queues = Object.entries(health?.queues ?? {});
  return (
    <Section title="CloudSentinel itself">
      <p>
        {health === undefined ? "State unknown." : `State: ${health.status}.`}{" "}
        {stats.events_total === null
          ? "No search index: events can't be searched."
          : `${count(stats.events_total, "event")} searchable.`}
      </p>
      <ul className="rows">
        {queues.map(([name, queue]) => (
          <li key={name}>
            <span>Queue {name}</span>
            <span className={queue.dead > 0 ? "kill-on" : "muted"}>
              {queue.ready} waiting, {queue.in_flight} in work, {queue.dead} given up
            </span>
          </li>
        ))}
      </ul>
    </Section>
  );
}
