// Says that something is coming. It fades in late (by CSS), so that quick
// answers don't flicker.

export function Loading({ what }: { what: string }) {
  return (
    <p className="loading" role="status">
      Loading {what}…
    </p>
  );
}
