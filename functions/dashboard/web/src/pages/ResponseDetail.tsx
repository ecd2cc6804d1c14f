// One response: what and why in sentences, what may be decided, and the audit
// trail of every step that was taken.

import { getResponse } from "../api/endpoints";
import type { ContainmentResponse } from "../api/types";
import { ResponseBadge } from "../components/Badges";
import { Copy } from "../components/Copy";
import { EmptyState } from "../components/EmptyState";
import { ErrorBanner } from "../components/ErrorBanner";
import { Facts, JsonFacts } from "../components/Facts";
import { Loading } from "../components/Loading";
import { PageHead } from "../components/PageHead";
import { Principal } from "../components/Principal";
import { ResponseActions } from "../components/ResponseActions";
import { Section, Sentences } from "../components/Section";
import { Time } from "../components/Time";
import { Timeline } from "../components/Timeline";
import { POLL_MS, usePoll } from "../hooks/usePoll";
import { asText, count, label, readable } from "../lib/format";
import { decider, headline, meaning, outcome, stepName } from "../lib/responses";
import { href } from "../lib/router";
import { useUser } from "../session";

/** How often a response is asked for while it is being carried out. */
const BUSY_MS = 2_000;
const PARENT = { href: href(["responses"]), text: "Responses" };

export function ResponseDetailPage({ responseId }: { responseId: string }) {
  const poll = usePoll(
    `response:${responseId}`,
    (signal) => getResponse(responseId, signal),
    // Whoever just decided is waiting to see it done.
    (shown) => (shown !== undefined && meaning(shown.state).tone === "busy" ? BUSY_MS : POLL_MS),
  );
  const user = useUser();
  const response = poll.data;
  return (
    <>
      <PageHead
        title={response === undefined ? "Response" : headline(response)}
        parent={PARENT}
        aside={response !== undefined && <ResponseBadge state={response.state} />}
      />
      <ErrorBanner error={poll.error} onRetry={poll.refresh} stale={response !== undefined} />
      {poll.loading && <Loading what="the response" />}
      {response !== undefined && (
        <>
          <div className="decision">
            <p className="lead">{meaning(response.state).sentence}</p>
            {response.state === "awaiting_approval" && (
              <p>
                {response.expires_at !== null && (
                  <>
                    Expires <Time at={response.expires_at} />.{" "}
                  </>
                )}
                {user.role !== "admin" && "An administrator must decide."}
              </p>
            )}
            <ResponseActions
              response={response}
              onDecided={poll.replace}
              onConflict={poll.refresh}
            />
          </div>
          <Body response={response} />
        </>
      )}
    </>
  );
}

function Body({ response }: { response: ContainmentResponse }) {
  return (
    <>
      <Section title="Why">
        {response.reasons.length === 0 ? (
          <EmptyState title="No reasons were recorded." />
        ) : (
          <Sentences items={response.reasons} />
        )}
      </Section>
      <div className="columns">
        <Section title="Audit trail">
          {response.steps.length === 0 ? (
            <EmptyState title="No step was taken yet." />
          ) : (
            <Timeline
              label="Steps of this response, oldest first"
              moments={response.steps.map((step, index) => ({
                id: `${step.at}-${index}`,
                at: step.at,
                title: (
                  <>
                    {stepName(step.step)}{" "}
                    <span className={`badge tone-${outcome(step.outcome, step.step).tone}`}>
                      {outcome(step.outcome, step.step).label}
                    </span>
                  </>
                ),
                text:
                  asText(step.detail) === "" ? undefined : <p>{readable(asText(step.detail))}</p>,
              }))}
            />
          )}
        </Section>
        <Section title="What it is about">
          <Facts facts={factsOf(response)} />
        </Section>
      </div>
      {response.snapshot !== null && (
        <Section title="Before the action">
          <JsonFacts value={response.snapshot} />
        </Section>
      )}
      {response.verification !== null && (
        <Section title="As last read back">
          <JsonFacts value={response.verification} />
        </Section>
      )}
    </>
  );
}

function factsOf(response: ContainmentResponse): React.ComponentProps<typeof Facts>["facts"] {
  const key = response.access_key_id;
  return [
    ["Access key", key === null ? null : <Copy key="key" text={key} what="access key id" />],
    ["Principal", <Principal key="principal" arn={response.principal} full />],
    ["AWS account", response.account],
    ["Requested", <Time key="at" at={response.requested_at} />],
    ["Mode", label(response.mode)],
    ["Playbook", response.playbook],
    ["Decided by", decider(response.decided_by)],
    ["Undone", response.undo_count === 0 ? null : count(response.undo_count, "time")],
    [
      "Alert",
      response.alert_id === null ? null : (
        <a key="alert" href={href(["alerts", response.alert_id])}>
          Open the alert
        </a>
      ),
    ],
    [
      "Incident",
      response.incident_id === null ? null : (
        <a key="incident" href={href(["incidents", response.incident_id])}>
          Open the incident
        </a>
      ),
    ],
    [
      "CloudSentinel's own events",
      response.own_events.length === 0 ? null : response.own_events.join(", "),
    ],
    ["Response id", <Copy key="id" text={response.response_id} what="response id" />],
  ];
}
