// The head of a page: its one h1, where it belongs, and what stands beside it.

import type { ReactNode } from "react";

interface Props {
  title: string;
  /** The list that this page is one item of. */
  parent?: { href: string; text: string };
  aside?: ReactNode;
}

export function PageHead({ title, parent, aside }: Props) {
  return (
    <div className="page-head">
      {parent !== undefined && (
        <a className="page-parent" href={parent.href}>
          ← {parent.text}
        </a>
      )}
      <div className="page-title">
        <h1>{title}</h1>
        {aside}
      </div>
    </div>
  );
}
