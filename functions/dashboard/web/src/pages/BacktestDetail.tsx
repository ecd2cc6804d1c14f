// One backtest: how far it is, and rule by rule which alerts the rules would
// add and take away, with examples and who is affected.

import { cancelBacktest, getBacktest } from "../api/endpoints";
import type {
  Affected,
  AlertSample,
  BacktestDetail,
  BacktestReport,
  BacktestSide,
  RuleDifference,
} from "../api/types";
import { BacktestBadge, LevelBadge } from "../components/Badges";
import { EmptyState } from "../components/EmptyState";
import { ErrorBanner } from "../components/ErrorBanner";
import { Facts } from "../components/Facts";
import { Loading } from "../components/Loading";
import { PageHead } from "../components/PageHead";
import { Principal } from "../components/Principal";
import { Section, Sentences } from "../components/Section";
import { type Column, Table } from "../components/Table";
import { Time } from "../components/Time";
import { useAction } from "../hooks/useAction";
import { usePoll } from "../hooks/usePoll";
import { absolute, count, label } from "../lib/format";
import { href } from "../lib/router";
import { useUser } from "../session";
import { progressText } from "./Backtests";

const PARENT = { href: href(["backtests"]), text: "Backtests" };
const WORKING_MS = 2_000;

function isOpen(backtest: BacktestDetail | undefined): boolean {
  return backtest?.state === "queued" || backtest?.state === "running";
}

export function BacktestDetailPage({ backtestId }: { backtestId: string }) {
  const user = useUser();
  const poll = usePoll(
    `backtest:${backtestId}`,
    (signal) => getBacktest(backtestId, signal),
    (shown) => (shown === undefined || isOpen(shown) ? WORKING_MS : 0),
  );
  const action = useAction();
  const backtest = poll.data;
  const cancel = () =>
    void action.run(async () => {
      await cancelBacktest(backtestId);
      poll.refresh();
    });
  return (
    <>
      <PageHead
        title={backtest?.files.join(", ") ?? "Backtest"}
        parent={PARENT}
        aside={backtest !== undefined && <BacktestBadge state={backtest.state} />}
      />
      <ErrorBanner error={poll.error} onRetry={poll.refresh} stale={backtest !== undefined} />
      {poll.loading && <Loading what="the backtest" />}
      {backtest !== undefined && (
        <>
          <ErrorBanner error={backtest.error === null ? undefined : new Error(backtest.error)} />
          {isOpen(backtest) && (
            <div className="notice" role="status">
              <p>{progressText(backtest)}</p>
              <progress
                aria-label="Progress"
                max={Math.max(backtest.progress.days_total, 1)}
                value={backtest.progress.days_done}
              />
              {user.role === "admin" && (
                <button type="button" className="button" disabled={action.busy} onClick={cancel}>
                  Cancel
                </button>
              )}
            </div>
          )}
          <ErrorBanner error={action.error} />
          <Asked backtest={backtest} />
          {backtest.result !== null && <Result report={backtest.result} />}
        </>
      )}
    </>
  );
}

function Asked({ backtest }: { backtest: BacktestDetail }) {
  const against = backtest.baseline === "in_force" ? "the rules in force" : "the shipped rules";
  return (
    <Section title="What was asked for">
      <Facts
        facts={[
          ["History", `${absolute(backtest.from)} to ${absolute(backtest.to)}`],
          ["Accounts", backtest.accounts.join(", ") || "all"],
          ["Compared with", `${against}, ${backtest.on_top ? "on top of them" : "in their place"}`],
          ["Asked for by", backtest.requested_by],
          ["When", <Time key="when" at={backtest.requested_at} />],
        ]}
      />
    </Section>
  );
}

function sideText(side: BacktestSide): string {
  const refused = side.refused_count === 0 ? "" : `, ${side.refused_count} refused`;
  const rules = `${count(side.rules, "rule")}, ${count(side.correlations, "correlation")}${refused}`;
  return `${count(side.alerts, "alert")}, ${side.alerts_per_day} a day (${rules})`;
}

function Result({ report }: { report: BacktestReport }) {
  const loud = report.rules.filter((rule) => rule.gained + rule.lost + rule.level_changed > 0);
  const refused = report.candidate.refused.map((one) => `${one.file}:${one.line}: ${one.reason}`);
  return (
    <>
      <Section title="What would change">
        <Facts
          facts={[
            ["Replayed", `${count(report.events, "event")} of ${count(report.days, "day")}`],
            ["Now", sideText(report.baseline)],
            ["With these rules", sideText(report.candidate)],
            ["Alerts gained", report.gained.toLocaleString("en-GB")],
            ["Alerts lost", report.lost.toLocaleString("en-GB")],
            ["At another level", report.level_changed.toLocaleString("en-GB")],
          ]}
        />
        <Sentences items={[...new Set([...refused, ...report.unreadable])]} />
      </Section>
      <Section title="Rule by rule">
        {loud.length === 0 ? (
          <EmptyState title="No alert is gained or lost." />
        ) : (
          <Table
            caption="Rules whose alerts differ"
            columns={RULES}
            items={loud}
            idOf={(rule) => rule.id}
          />
        )}
        {report.rules_omitted > 0 && (
          <p className="muted">
            {count(report.rules_omitted, "rule")} with fewer differences left out.
          </p>
        )}
      </Section>
      {loud.map((rule) => (
        <Examples key={rule.id} rule={rule} />
      ))}
      {report.principals.length > 0 && (
        <Section title="Most affected">
          <AffectedTable caption="Principals most affected" items={report.principals} />
        </Section>
      )}
    </>
  );
}

const RULES: Column<RuleDifference>[] = [
  {
    header: "Level",
    className: "col-level",
    cell: (rule) => (
      <>
        {rule.baseline_level !== null && (
          <p className="row-reason">{label(rule.baseline_level)}, now</p>
        )}
        <LevelBadge level={rule.level} />
      </>
    ),
  },
  {
    header: "Rule",
    className: "col-main",
    cell: (rule) => (
      <>
        <strong className="row-title">{rule.title}</strong>
        <p className="row-reason">
          {label(rule.change)}, {rule.file}
        </p>
      </>
    ),
  },
  { header: "Gained", className: "col-number", cell: (rule) => rule.gained },
  { header: "Lost", className: "col-number", cell: (rule) => rule.lost },
  {
    header: "Alerts a day",
    className: "col-number",
    cell: (rule) => `${rule.baseline_alerts_per_day} → ${rule.alerts_per_day}`,
  },
];

type Sample = AlertSample & { way: string };

const SAMPLES: Column<Sample>[] = [
  { header: "", cell: (sample) => sample.way },
  { header: "Level", className: "col-level", cell: (one) => <LevelBadge level={one.level} /> },
  {
    header: "Principal",
    className: "col-principal",
    cell: (sample) => (
      <>
        <Principal arn={sample.principal} />
        <p className="muted">{sample.account}</p>
      </>
    ),
  },
  { header: "Source", cell: (sample) => sample.source_ip },
  {
    header: "Events",
    className: "col-main",
    cell: (sample) => (
      <>
        {count(sample.event_count, "event")}
        <p className="row-reason">{sample.event_ids.join(", ")}</p>
      </>
    ),
  },
  { header: "Time (UTC)", className: "col-time", cell: (sample) => <Time at={sample.time} /> },
];

function Examples({ rule }: { rule: RuleDifference }) {
  const samples = [
    ...rule.gained_samples.map((sample) => ({ ...sample, way: "Gained" })),
    ...rule.lost_samples.map((sample) => ({ ...sample, way: "Lost" })),
  ];
  if (samples.length === 0) return null;
  return (
    <details className="disclosure">
      <summary>{rule.title}: examples</summary>
      <Table
        caption={`Examples of ${rule.title}`}
        columns={SAMPLES}
        items={samples}
        idOf={(sample) => `${sample.way} ${sample.alert_id}`}
      />
      <AffectedTable caption={`Most affected by ${rule.title}`} items={rule.principals} />
    </details>
  );
}

const AFFECTED: Column<Affected>[] = [
  {
    header: "Principal",
    className: "col-principal",
    cell: (who) => (
      <>
        <Principal arn={who.principal} />
        <p className="muted">{who.account}</p>
      </>
    ),
  },
  { header: "Gained", className: "col-number", cell: (who) => who.gained },
  { header: "Lost", className: "col-number", cell: (who) => who.lost },
];

function AffectedTable({ caption, items }: { caption: string; items: Affected[] }) {
  return (
    <Table
      caption={caption}
      columns={AFFECTED}
      items={items}
      idOf={(who) => `${who.account} ${who.principal}`}
    />
  );
}
