// Label and value pairs: the short facts of a page, and unknown JSON objects
// (a snapshot, a verification) shown as far as they can be read.

import type { ReactNode } from "react";
import { asText, label } from "../lib/format";

export type Fact = [label: string, value: ReactNode];

/** Facts without a value are left out. */
export function Facts({ facts }: { facts: Fact[] }) {
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return (
    <dl className="facts">
      {known.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function JsonFacts({ value }: { value: unknown }) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return <p>{asText(value)}</p>;
  }
  return <Facts facts={Object.entries(value).map(([key, part]) => [label(key), asText(part)])} />;
}
