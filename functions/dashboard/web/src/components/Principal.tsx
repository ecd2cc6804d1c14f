// Who it was: the short name first, then what kind of identity, with the whole
// ARN at hand.

import { principalKind, principalName } from "../lib/format";

export function Principal({ arn, full = false }: { arn: string | null; full?: boolean }) {
  const kind = principalKind(arn);
  return (
    <span className="principal" title={arn ?? undefined}>
      <span className="principal-name">{principalName(arn)}</span>
      {/* The blank stays outside, or the line could only break inside the name. */}
      {kind !== "" && " "}
      {kind !== "" && <span className="principal-kind">{kind}</span>}
      {full && arn?.startsWith("arn:") && <code className="principal-arn">{arn}</code>}
    </span>
  );
}

/** Account and region as one quiet line; what is unknown is left out. */
export function Place({ account, region }: { account: string | null; region?: string | null }) {
  return (
    <p className="muted">
      {account !== null && <span className="piece">{account}</span>}
      {region !== null && region !== undefined && <span className="piece">{region}</span>}
    </p>
  );
}
