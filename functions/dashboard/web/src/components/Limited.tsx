// A search that can't find everything says so, above whatever it found.

export function Limited({ why }: { why: string | undefined }) {
  if (why === undefined) return null;
  return (
    <p className="strip strip-warn" role="note">
      {why}
    </p>
  );
}
