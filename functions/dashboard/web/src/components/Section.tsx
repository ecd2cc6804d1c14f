// A titled part of a page, so that headings form an outline that screen readers
// can jump along.

import { type ReactNode, useId } from "react";

interface Props {
  title: string;
  aside?: ReactNode;
  children: ReactNode;
}

export function Section({ title, aside, children }: Props) {
  const id = useId();
  return (
    <section className="section" aria-labelledby={id}>
      <div className="section-head">
        <h2 id={id}>{title}</h2>
        {aside}
      </div>
      {children}
    </section>
  );
}

/** Sentences that a person reads first: reasons, summaries. */
export function Sentences({ items }: { items: string[] }) {
  if (items.length === 0) return null;
  return (
    <ul className="sentences">
      {items.map((sentence) => (
        <li key={sentence}>{sentence}</li>
      ))}
    </ul>
  );
}
