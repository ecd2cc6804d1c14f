// Sign-in. The address is kept, so that somebody who followed a link to an
// alert lands there afterwards.

import { type FormEvent, useState } from "react";
import { login } from "../api/endpoints";
import { ErrorBanner } from "../components/ErrorBanner";
import { Input } from "../components/Fields";
import { useAction } from "../hooks/useAction";
import { useSession } from "../session";

export function LoginPage() {
  const { notice, signedIn } = useSession();
  const action = useAction();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");

  const submit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      const answer = await login(username.trim(), password);
      signedIn(answer);
    });
  };

  return (
    <form className="stack" onSubmit={submit}>
      <h1>Sign in</h1>
      {notice !== null && action.error === undefined && (
        <p className="notice" role="status">
          {notice}
        </p>
      )}
      <ErrorBanner error={action.error} />
      <Input
        label="Username"
        value={username}
        onChange={setUsername}
        autoComplete="username"
        required
      />
      <Input
        label="Password"
        type="password"
        value={password}
        onChange={setPassword}
        autoComplete="current-password"
        required
      />
      <button type="submit" className="button button-primary" disabled={action.busy}>
        {action.busy ? "Signing in…" : "Sign in"}
      </button>
    </form>
  );
}
