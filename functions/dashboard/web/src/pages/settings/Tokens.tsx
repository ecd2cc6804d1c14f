// Tokens with which programs send logs. The secret is shown once, right after
// it was made; revoking asks first, because a sender will fail from then on.

import { type FormEvent, useState } from "react";
import { createToken, deleteToken, listTokens } from "../../api/endpoints";
import type { ApiToken, CreatedToken } from "../../api/types";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { Copy } from "../../components/Copy";
import { EmptyState } from "../../components/EmptyState";
import { ErrorBanner } from "../../components/ErrorBanner";
import { Input } from "../../components/Fields";
import { Loading } from "../../components/Loading";
import { Section } from "../../components/Section";
import { type Column, Table } from "../../components/Table";
import { Time } from "../../components/Time";
import { useAction } from "../../hooks/useAction";
import { usePoll } from "../../hooks/usePoll";

export function TokensSection() {
  const { data, error, loading, refresh } = usePoll("tokens", listTokens);
  const [revoking, setRevoking] = useState<ApiToken | null>(null);
  const action = useAction();
  const close = () => {
    setRevoking(null);
    action.clear();
  };
  const revoke = async (token: ApiToken) => {
    const done = await action.run(async () => {
      await deleteToken(token.id);
      refresh();
    });
    if (done) close();
  };

  const columns: Column<ApiToken>[] = [
    { header: "Token", className: "col-main", cell: (token) => <strong>{token.name}</strong> },
    { header: "May do", cell: (token) => token.scopes.join(", ") },
    {
      header: "Expires (UTC)",
      className: "col-time",
      cell: (token) => (token.expires_at ? <Time at={token.expires_at} /> : "never"),
    },
    {
      header: "Access",
      cell: (token) => (
        <button type="button" className="button" onClick={() => setRevoking(token)}>
          Revoke<span className="visually-hidden"> {token.name}</span>
        </button>
      ),
    },
  ];

  return (
    <Section title="Tokens for sending logs">
      <ErrorBanner error={error} onRetry={refresh} stale={data !== undefined} />
      {loading && <Loading what="tokens" />}
      {data !== undefined &&
        (data.items.length === 0 ? (
          <EmptyState title="No tokens." />
        ) : (
          <Table caption="Tokens" columns={columns} items={data.items} idOf={(token) => token.id} />
        ))}
      <NewToken onCreated={refresh} />
      {revoking !== null && (
        <ConfirmDialog
          title={`Revoke token ${revoking.name}?`}
          action="Revoke token"
          danger
          busy={action.busy}
          error={action.error}
          onCancel={close}
          onConfirm={() => void revoke(revoking)}
        >
          <p className="effect">Whatever sends logs with this token is refused from now on.</p>
        </ConfirmDialog>
      )}
    </Section>
  );
}

function NewToken({ onCreated }: { onCreated: () => void }) {
  const [name, setName] = useState("");
  const [days, setDays] = useState("90");
  const [created, setCreated] = useState<CreatedToken | null>(null);
  const action = useAction();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setCreated(null);
    void action.run(async () => {
      const body = { name: name.trim(), scopes: ["logs:write"], expires_in_days: Number(days) };
      setCreated(await createToken(body));
      setName("");
      onCreated();
    });
  };
  return (
    <details className="disclosure">
      <summary>Create a token</summary>
      <form className="stack narrow" onSubmit={submit}>
        <Input label="Name" value={name} onChange={setName} autoComplete="off" required />
        <Input
          label="Valid for (days)"
          type="number"
          min={1}
          max={365}
          value={days}
          onChange={setDays}
          required
        />
        <ErrorBanner error={action.error} />
        <button type="submit" className="button button-primary" disabled={action.busy}>
          Create token
        </button>
      </form>
      <div aria-live="polite">
        {created !== null && (
          <div className="notice notice-good">
            <p>Copy this token now. It is not shown again.</p>
            <Copy text={created.token} what="token" />
          </div>
        )}
      </div>
    </details>
  );
}
