// Accounts of people: create one, change its role, disable it. One's own
// account can't be changed here, so that nobody locks themselves out.

import { type FormEvent, useState } from "react";
import { createUser, listUsers, patchUser } from "../../api/endpoints";
import type { Account, Role } from "../../api/types";
import { ErrorBanner } from "../../components/ErrorBanner";
import { Input, Select } from "../../components/Fields";
import { Loading } from "../../components/Loading";
import { Principal } from "../../components/Principal";
import { Section } from "../../components/Section";
import { type Column, Table } from "../../components/Table";
import { Time } from "../../components/Time";
import { useAction } from "../../hooks/useAction";
import { usePoll } from "../../hooks/usePoll";
import { useUser } from "../../session";

const ROLES: [string, string][] = [
  ["viewer", "Viewer: reads"],
  ["analyst", "Analyst: triages alerts"],
  ["admin", "Admin: decides on responses"],
];

export function UsersSection() {
  const me = useUser();
  const { data, error, loading, refresh } = usePoll("users", listUsers);
  const action = useAction();
  const change = (account: Account, body: { role?: Role; disabled?: boolean }) =>
    void action.run(async () => {
      await patchUser(account.username, body);
      refresh();
    });

  const columns: Column<Account>[] = [
    {
      header: "User",
      className: "col-main",
      cell: (account) => (
        <>
          <strong>{account.username}</strong>
          {account.username === me.username && <span className="muted"> (you)</span>}
          {account.disabled && <span className="badge tone-plain">Disabled</span>}
        </>
      ),
    },
    {
      header: "AWS principals",
      className: "col-principal",
      cell: (account) =>
        account.principals.length === 0
          ? "none"
          : account.principals.map((arn) => (
              <span key={arn} className="line">
                <Principal arn={arn} full />
              </span>
            )),
    },
    {
      header: "Created (UTC)",
      className: "col-time",
      cell: (account) => <Time at={account.created_at} />,
    },
    {
      header: "Role",
      cell: (account) =>
        account.username === me.username ? (
          account.role
        ) : (
          <Select
            label={`Role of ${account.username}`}
            value={account.role}
            options={ROLES}
            onChange={(value) => change(account, { role: value as Role })}
          />
        ),
    },
    {
      header: "Access",
      cell: (account) =>
        account.username === me.username ? (
          "active"
        ) : (
          <button
            type="button"
            className="button"
            disabled={action.busy}
            onClick={() => change(account, { disabled: !account.disabled })}
          >
            {account.disabled ? "Enable" : "Disable"}
            <span className="visually-hidden"> {account.username}</span>
          </button>
        ),
    },
  ];

  return (
    <Section title="Users">
      <ErrorBanner error={error} onRetry={refresh} stale={data !== undefined} />
      <ErrorBanner error={action.error} />
      {loading && <Loading what="users" />}
      {data !== undefined && (
        <Table
          caption="Users"
          columns={columns}
          items={data.items}
          idOf={(account) => account.username}
        />
      )}
      <NewUser onCreated={refresh} />
    </Section>
  );
}

const EMPTY = { username: "", role: "viewer", password: "", principals: "" };

function NewUser({ onCreated }: { onCreated: () => void }) {
  const [draft, setDraft] = useState(EMPTY);
  const action = useAction();
  const edit = (name: keyof typeof EMPTY) => (value: string) =>
    setDraft({ ...draft, [name]: value });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      await createUser({
        username: draft.username.trim(),
        role: draft.role as Role,
        password: draft.password,
        principals: draft.principals.split(/[\s,]+/).filter((arn) => arn !== ""),
      });
      setDraft(EMPTY);
      onCreated();
    });
  };
  return (
    <details className="disclosure">
      <summary>Add a user</summary>
      <form className="stack narrow" onSubmit={submit}>
        <Input
          label="Username"
          value={draft.username}
          onChange={edit("username")}
          autoComplete="off"
          required
        />
        <Select label="Role" value={draft.role} options={ROLES} onChange={edit("role")} />
        <Input
          label="First password"
          type="password"
          value={draft.password}
          onChange={edit("password")}
          autoComplete="new-password"
          required
          hint="At least 15 characters. It must be changed at the first sign-in."
        />
        <Input
          label="AWS principals (ARNs)"
          value={draft.principals}
          onChange={edit("principals")}
          hint="Whose keys this person may not decide about, separated by spaces."
        />
        <ErrorBanner error={action.error} />
        <button type="submit" className="button button-primary" disabled={action.busy}>
          Add user
        </button>
      </form>
    </details>
  );
}
