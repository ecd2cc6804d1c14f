// Changes one's own password: by wish, or because the first one was handed out
// and must not stay.

import { type FormEvent, useState } from "react";
import { changePassword } from "../api/endpoints";
import { ErrorBanner } from "../components/ErrorBanner";
import { Input } from "../components/Fields";
import { useAction } from "../hooks/useAction";
import { useSession, useUser } from "../session";

export function ChangePasswordPage({ forced = false }: { forced?: boolean }) {
  const { signedIn, signOut } = useSession();
  const user = useUser();
  const action = useAction();
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const [again, setAgain] = useState("");
  const [done, setDone] = useState(false);

  const submit = (event: FormEvent) => {
    event.preventDefault();
    setDone(false);
    void action.run(async () => {
      if (next !== again) throw new Error("The two new passwords are not the same.");
      if (next === current) throw new Error("The new password must differ from the current one.");
      const answer = await changePassword(current, next);
      setCurrent("");
      setNext("");
      setAgain("");
      setDone(true);
      signedIn(answer);
    });
  };

  return (
    <form className="stack narrow" onSubmit={submit}>
      <h1>{forced ? "Choose your own password" : "Change password"}</h1>
      {forced && (
        <p>
          {user.username}, the password you signed in with was handed out to you. Replace it before
          you go on.
        </p>
      )}
      <ErrorBanner error={action.error} />
      <div role="status">{done && <p className="notice notice-good">Password changed.</p>}</div>
      {/* Tells password managers whose password this is. */}
      <input
        type="text"
        name="username"
        autoComplete="username"
        value={user.username}
        readOnly
        hidden
      />
      <Input
        label="Current password"
        type="password"
        value={current}
        onChange={setCurrent}
        autoComplete="current-password"
        required
      />
      <Input
        label="New password"
        type="password"
        value={next}
        onChange={setNext}
        autoComplete="new-password"
        required
        hint="At least 15 characters. A few words are easy to remember."
      />
      <Input
        label="New password again"
        type="password"
        value={again}
        onChange={setAgain}
        autoComplete="new-password"
        required
      />
      <button type="submit" className="button button-primary" disabled={action.busy}>
        {action.busy ? "Saving…" : "Save new password"}
      </button>
      {forced && (
        <button type="button" className="link" onClick={signOut}>
          Sign out
        </button>
      )}
    </form>
  );
}
