// Containment responses as a short list with what each means: used wherever an
// alert, an incident or the overview refers to them.

import type { ContainmentResponse } from "../api/types";
import { headline, meaning } from "../lib/responses";
import { href } from "../lib/router";
import { ResponseBadge } from "./Badges";
import { Time } from "./Time";

export function ResponseList({ responses }: { responses: ContainmentResponse[] }) {
  return (
    <ul className="cards">
      {responses.map((response) => (
        <li key={response.response_id} className="card">
          <div className="card-head">
            <ResponseBadge state={response.state} />
            <Time at={response.requested_at} />
          </div>
          <a className="card-title" href={href(["responses", response.response_id])}>
            {headline(response)}
          </a>
          <p className="muted">
            Account {response.account}. {meaning(response.state).sentence}
          </p>
        </li>
      ))}
    </ul>
  );
}
