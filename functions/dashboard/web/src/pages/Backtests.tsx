// Rules tried on the archive: what was tried so far, and for administrators a
// form to try more. What came out stands on each one's own page.

import { type FormEvent, useState } from "react";
import { createBacktest, listBacktests } from "../api/endpoints";
import type { Backtest, BacktestRequest } from "../api/types";
import { BacktestBadge } from "../components/Badges";
import { EmptyState } from "../components/EmptyState";
import { ErrorBanner } from "../components/ErrorBanner";
import { Input, Select } from "../components/Fields";
import { Loading } from "../components/Loading";
import { LoadMore } from "../components/LoadMore";
import { PageHead } from "../components/PageHead";
import { Section } from "../components/Section";
import { type Column, Table } from "../components/Table";
import { Time } from "../components/Time";
import { useAction } from "../hooks/useAction";
import { usePagedPoll } from "../hooks/usePagedPoll";
import { absolute, count } from "../lib/format";
import { href } from "../lib/router";
import { useUser } from "../session";
import { asUtc } from "./Events";

const DAY_MS = 86_400_000;
const BASELINES: [string, string][] = [
  ["in_force", "The rules in force"],
  ["shipped", "The rules shipped with CloudSentinel"],
];

/** How far one is, in words. */
export function progressText({ progress, state }: Backtest): string {
  if (state === "queued") return "Waits for its turn.";
  const { days_done, days_total, events } = progress;
  return `${days_done} of ${count(days_total, "day")} of accounts, ${count(events, "event")}.`;
}

const COLUMNS: Column<Backtest>[] = [
  { header: "State", className: "col-level", cell: (one) => <BacktestBadge state={one.state} /> },
  {
    header: "Rules",
    className: "col-main",
    cell: (one) => (
      <>
        <a className="row-title" href={href(["backtests", one.id])}>
          {one.files.join(", ")}
        </a>
        <p className="row-reason">{one.error ?? progressText(one)}</p>
      </>
    ),
  },
  {
    header: "History (UTC)",
    cell: (one) => `${absolute(one.from).slice(0, 16)} to ${absolute(one.to).slice(0, 16)}`,
  },
  { header: "Asked for by", cell: (one) => one.requested_by },
  { header: "When (UTC)", className: "col-time", cell: (one) => <Time at={one.requested_at} /> },
];

export function BacktestsPage() {
  const user = useUser();
  const list = usePagedPoll(
    "backtests",
    (one: Backtest) => one.id,
    (cursor, signal) => listBacktests({ cursor }, signal),
  );
  return (
    <>
      <PageHead title="Backtests" />
      {user.role === "admin" && <TryRules onAsked={list.refresh} />}
      <ErrorBanner error={list.error} onRetry={list.refresh} stale={list.items !== undefined} />
      {list.loading && <Loading what="backtests" />}
      {list.items !== undefined &&
        (list.items.length === 0 && !list.hasMore ? (
          <EmptyState title="No rules were tried yet.">
            A backtest replays the archive through rules, and shows which alerts they would add and
            take away.
          </EmptyState>
        ) : (
          <>
            <Table
              caption="Backtests"
              columns={COLUMNS}
              items={list.items}
              idOf={(one) => one.id}
            />
            <LoadMore list={list} one="backtest" />
          </>
        ))}
    </>
  );
}

/** A time as a `datetime-local` field has it, in UTC. */
function local(time: number): string {
  return new Date(time).toISOString().slice(0, 16);
}

function TryRules({ onAsked }: { onAsked: () => void }) {
  const [text, setText] = useState("");
  const [files, setFiles] = useState<{ name: string; text: string }[]>([]);
  const [from, setFrom] = useState(() => local(Date.now() - 7 * DAY_MS));
  const [to, setTo] = useState(() => local(Date.now()));
  const [baseline, setBaseline] = useState<string>("in_force");
  const [way, setWay] = useState("on_top");
  const action = useAction();

  const read = async (chosen: FileList | null) => {
    const all = [...(chosen ?? [])];
    setFiles(
      await Promise.all(all.map(async (file) => ({ name: file.name, text: await file.text() }))),
    );
  };
  const rules = [...files, ...(text.trim() === "" ? [] : [{ name: "pasted.yml", text }])];
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      const made = await createBacktest({
        rules,
        baseline: baseline as BacktestRequest["baseline"],
        on_top: way === "on_top",
        from: asUtc(from),
        to: asUtc(to),
      });
      onAsked();
      window.location.hash = href(["backtests", made.id]);
    });
  };
  return (
    <Section title="Try rules on the archive">
      <form className="stack" onSubmit={submit}>
        <label className="field">
          Sigma rules
          <textarea
            rows={10}
            className="code"
            spellCheck={false}
            placeholder={"title: …\nlogsource: {product: aws, service: cloudtrail}\ndetection: …"}
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        </label>
        <label className="field">
          Or files of rules
          <input
            type="file"
            multiple
            accept=".yml,.yaml"
            onChange={(event) => void read(event.target.files)}
          />
        </label>
        <div className="filters">
          <Select
            label="Compared with"
            value={baseline}
            options={BASELINES}
            onChange={setBaseline}
          />
          <Select
            label="They come"
            value={way}
            options={[
              ["on_top", "On top of those"],
              ["instead", "In place of those"],
            ]}
            onChange={setWay}
          />
          <Input
            label="From (UTC)"
            type="datetime-local"
            value={from}
            onChange={setFrom}
            required
          />
          <Input label="To (UTC)" type="datetime-local" value={to} onChange={setTo} required />
        </div>
        <ErrorBanner error={action.error} />
        <div className="actions">
          <button
            type="submit"
            className="button button-primary"
            disabled={action.busy || rules.length === 0}
          >
            {action.busy ? "Asking…" : "Start backtest"}
          </button>
        </div>
      </form>
    </Section>
  );
}
