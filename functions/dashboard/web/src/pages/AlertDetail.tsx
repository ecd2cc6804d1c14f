// One alert: why it was raised in plain sentences, who and where, what was done
// about it, and only then the raw evidence.

import { getAlert } from "../api/endpoints";
import type { AlertDetail } from "../api/types";
import { eventCount } from "../components/AlertTable";
import { AttackTags } from "../components/AttackTags";
import { AlertStateBadge, LevelBadge } from "../components/Badges";
import { Copy } from "../components/Copy";
import { EmptyState } from "../components/EmptyState";
import { ErrorBanner } from "../components/ErrorBanner";
import { Facts } from "../components/Facts";
import { Loading } from "../components/Loading";
import { PageHead } from "../components/PageHead";
import { Principal } from "../components/Principal";
import { RawRecord } from "../components/RawRecord";
import { ResponseList } from "../components/ResponseList";
import { Section, Sentences } from "../components/Section";
import { Time } from "../components/Time";
import { Timeline } from "../components/Timeline";
import { TriageForm } from "../components/TriageForm";
import { usePoll } from "../hooks/usePoll";
import { asText } from "../lib/format";
import { provenanceText } from "../lib/provenance";
import { href } from "../lib/router";
import { useUser } from "../session";

const PARENT = { href: href(["alerts"]), text: "Alerts" };

export function AlertDetailPage({ alertId }: { alertId: string }) {
  const poll = usePoll(`alert:${alertId}`, (signal) => getAlert(alertId, signal));
  const alert = poll.data;
  return (
    <>
      <PageHead
        title={alert?.title ?? "Alert"}
        parent={PARENT}
        aside={
          alert !== undefined && (
            <>
              <LevelBadge level={alert.level} />
              <AlertStateBadge alert={alert} />
            </>
          )
        }
      />
      <ErrorBanner error={poll.error} onRetry={poll.refresh} stale={alert !== undefined} />
      {poll.loading && <Loading what="the alert" />}
      {alert !== undefined && <Body alert={alert} onSaved={poll.replace} onReload={poll.refresh} />}
    </>
  );
}

interface BodyProps {
  alert: AlertDetail;
  onSaved: (alert: AlertDetail) => void;
  onReload: () => void;
}

function Body({ alert, onSaved, onReload }: BodyProps) {
  const user = useUser();
  return (
    <>
      {alert.superseded_by !== null && (
        <p className="notice" role="note">
          <span>
            Later events showed this to be no alert. It counts for nothing and is kept as it was.
            {alert.superseded_by !== "" && (
              <>
                {" "}
                <a href={href(["alerts", alert.superseded_by])}>The alert with its events</a>
              </>
            )}
          </span>
        </p>
      )}
      <Section title="Why this was raised">
        <Sentences items={alert.reasons} />
        <AttackTags attack={alert.attack} />
      </Section>
      <div className="columns">
        <Section title="Who, where, when">
          <Facts facts={factsOf(alert)} />
        </Section>
        <Section title="Triage">
          {user.role === "viewer" ? (
            <>
              <Facts facts={[["Note", alert.note]]} />
              <p className="muted">Analysts and administrators can change the state.</p>
            </>
          ) : (
            <TriageForm alert={alert} onSaved={onSaved} onReload={onReload} />
          )}
          {alert.history.length > 0 && (
            <Timeline
              label="History of this alert"
              moments={alert.history.map((entry, index) => ({
                id: `${entry.at}-${index}`,
                at: entry.at,
                title: asText(entry.change),
                text: `by ${entry.by}`,
              }))}
            />
          )}
        </Section>
      </div>
      <Section title="Responses">
        {alert.responses.length === 0 ? (
          <EmptyState title="No response was planned for this alert." />
        ) : (
          <ResponseList responses={alert.responses} />
        )}
      </Section>
      <Section title="CloudTrail records">
        {alert.events.length === 0 ? (
          <EmptyState
            title={
              alert.limited === undefined
                ? "The records are no longer in the search index."
                : "The records can't be shown here."
            }
          >
            {alert.limited} They stay in the archive as long as its retention says.
          </EmptyState>
        ) : (
          <>
            <p className="muted">
              {alert.events.length} of {eventCount(alert)} shown, untouched. Open one to read it.
            </p>
            {alert.events.map((record, index) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: records have no id of ours, and never reorder.
              <RawRecord key={index} record={record} />
            ))}
          </>
        )}
      </Section>
    </>
  );
}

function factsOf(alert: AlertDetail): React.ComponentProps<typeof Facts>["facts"] {
  const { keys, addresses, agents } = alert.indicators;
  return [
    ["Principal", <Principal key="principal" arn={alert.principal} full />],
    ["AWS account", alert.account],
    ["Region", alert.region],
    [keys.length === 1 ? "Access key" : "Access keys", keys.length > 0 && <Keys keys={keys} />],
    ["Source addresses", addresses.join(", ") || alert.source_ip],
    ["User agents", agents.join(", ")],
    ["First event", <Time key="time" at={alert.time} />],
    ["Events", eventCount(alert)],
    ["Score", alert.score.toFixed(2)],
    ["Rule", alert.rule.title ?? alert.rule.id],
    ["Rule id", <code key="rule">{alert.rule.id}</code>],
    ["Rule author", alert.rule.author],
    ["Alert id", <Copy key="id" text={alert.alert_id} what="alert id" />],
    [
      "Came from",
      alert.provenance.map(provenanceText).map((text) => (
        <span key={text} className="line">
          {text}
        </span>
      )),
    ],
    [
      "Incident",
      alert.incident_id !== null && (
        <a href={href(["incidents", alert.incident_id])}>Open the incident</a>
      ),
    ],
  ].filter(([, value]) => value !== false) as React.ComponentProps<typeof Facts>["facts"];
}

function Keys({ keys }: { keys: string[] }) {
  return (
    <>
      {keys.map((key) => (
        <Copy key={key} text={key} what="access key id" />
      ))}
    </>
  );
}
