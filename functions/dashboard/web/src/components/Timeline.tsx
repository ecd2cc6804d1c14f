// Things in the order in which they happened: an incident's alerts, a
// response's steps, an alert's history.

import type { ReactNode } from "react";
import { Time } from "./Time";

export interface Moment {
  id: string;
  at: string;
  title: ReactNode;
  text?: ReactNode;
  /** Class that colours the dot: a level or a tone. */
  mark?: string;
}

export function Timeline({ label, moments }: { label: string; moments: Moment[] }) {
  return (
    <ol className="timeline" aria-label={label}>
      {moments.map((moment) => (
        <li key={moment.id} className={moment.mark}>
          <div className="timeline-title">{moment.title}</div>
          <Time at={moment.at} />
          {moment.text !== undefined && <div className="timeline-text">{moment.text}</div>}
        </li>
      ))}
    </ol>
  );
}
