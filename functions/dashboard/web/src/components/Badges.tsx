// Levels and states as coloured words: the word carries the meaning, colour
// only helps, so nothing depends on seeing it.

import type { Alert, BacktestState, Level, ResponseState } from "../api/types";
import { label } from "../lib/format";
import { meaning } from "../lib/responses";

export function LevelBadge({ level }: { level: Level }) {
  return <span className={`badge level-${level}`}>{label(level)}</span>;
}

export function ResponseBadge({ state }: { state: ResponseState }) {
  const { label: text, tone } = meaning(state);
  return <span className={`badge tone-${tone}`}>{text}</span>;
}

const BACKTEST_TONE = {
  queued: "plain",
  running: "busy",
  done: "good",
  failed: "bad",
  cancelled: "plain",
} as const;

export function BacktestBadge({ state }: { state: BacktestState }) {
  return <span className={`badge tone-${BACKTEST_TONE[state] ?? "plain"}`}>{label(state)}</span>;
}

const ALERT_TONE = { new: "warn", acknowledged: "busy", closed: "plain" } as const;

/** An alert's title, struck out where later events showed it to be none. */
export function AlertTitle({ alert }: { alert: Pick<Alert, "title" | "superseded_by"> }) {
  return alert.superseded_by === null ? alert.title : <s>{alert.title}</s>;
}

type Standing = Pick<Alert, "state" | "verdict" | "superseded_by">;

export function AlertStateBadge({ alert }: { alert: Standing }) {
  return (
    <span className="badges">
      <SupersededBadge alert={alert} />
      <span className={`badge tone-${ALERT_TONE[alert.state] ?? "plain"}`}>
        {label(alert.state)}
      </span>
      {alert.verdict !== null && <span className="badge tone-plain">{label(alert.verdict)}</span>}
    </span>
  );
}

export function SupersededBadge({ alert }: { alert: Pick<Alert, "superseded_by"> }) {
  if (alert.superseded_by === null) return null;
  return <span className="badge tone-plain">Superseded</span>;
}
