// Levels and states as coloured words: the word carries the meaning, colour
// only helps, so nothing depends on seeing it.

import type { Alert, Level, ResponseState } from "../api/types";
import { label } from "../lib/format";
import { meaning } from "../lib/responses";

export function LevelBadge({ level }: { level: Level }) {
  return <span className={`badge level-${level}`}>{label(level)}</span>;
}

export function ResponseBadge({ state }: { state: ResponseState }) {
  const { label: text, tone } = meaning(state);
  return <span className={`badge tone-${tone}`}>{text}</span>;
}

const ALERT_TONE = { new: "warn", acknowledged: "busy", closed: "plain" } as const;

export function AlertStateBadge({ alert }: { alert: Pick<Alert, "state" | "verdict"> }) {
  return (
    <span className="badges">
      <span className={`badge tone-${ALERT_TONE[alert.state] ?? "plain"}`}>
        {label(alert.state)}
      </span>
      {alert.verdict !== null && <span className="badge tone-plain">{label(alert.verdict)}</span>}
    </span>
  );
}
