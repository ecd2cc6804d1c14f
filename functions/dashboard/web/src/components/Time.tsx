// A moment, both ways: how long ago (for the eye) and exactly when in UTC (for
// the log and the report).

import { useNow } from "../hooks/useNow";
import { absolute, relative } from "../lib/format";

export function Time({ at }: { at: string }) {
  const now = useNow();
  return (
    <time className="time" dateTime={at}>
      <span className="time-relative">{relative(at, now)}</span>{" "}
      <span className="time-absolute">{absolute(at)}</span>
    </time>
  );
}
