// For an address that names no page.

import { EmptyState } from "../components/EmptyState";
import { PageHead } from "../components/PageHead";

export function NotFoundPage() {
  return (
    <>
      <PageHead title="Not found" />
      <EmptyState title="There is no page at this address.">
        <a href="#/">Go to the overview</a>
      </EmptyState>
    </>
  );
}
