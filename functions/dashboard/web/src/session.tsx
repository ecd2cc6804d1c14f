// Who is signed in and what the server says about itself: shared by the shell
// and every page, so that roles, the simulated account and the kill switch are
// known in one place.

import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from "react";
import { onSessionEvents } from "./api/client";
import { getHealth, getMe } from "./api/endpoints";
import { getToken, setToken } from "./api/token";
import type { Health, LoginAnswer, User } from "./api/types";
import { usePoll } from "./hooks/usePoll";

export interface Session {
  /** Null while nobody is signed in. */
  user: User | null;
  /** Why the sign-in page is shown, if not by the user's own wish. */
  notice: string | null;
  /** True until a token kept from before the reload is checked. */
  restoring: boolean;
  restoreError: unknown;
  retryRestore: () => void;
  health: Health | undefined;
  healthError: unknown;
  /** Asks again at once, after a change that health tells of. */
  refreshHealth: () => void;
  signedIn: (answer: LoginAnswer) => void;
  signOut: () => void;
}

const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) throw new Error("useSession is used outside SessionProvider");
  return session;
}

/** The signed-in user, for pages that the shell shows only to one. */
export function useUser(): User {
  const { user } = useSession();
  if (user === null) throw new Error("useUser is used while nobody is signed in");
  return user;
}

export function SessionProvider({ children }: { children: ReactNode }) {
  const [user, setUser] = useState<User | null>(null);
  const [notice, setNotice] = useState<string | null>(null);
  const [restoring, setRestoring] = useState(() => getToken() !== null);
  const [restoreError, setRestoreError] = useState<unknown>(undefined);
  const [attempt, setAttempt] = useState(0);
  const health = usePoll("health", getHealth);

  useEffect(
    () =>
      onSessionEvents({
        expired: () => {
          setToken(null);
          setUser(null);
          setRestoring(false);
          setNotice("Your session has ended. Please sign in again.");
        },
        passwordChangeRequired: () =>
          setUser((old) => (old === null ? old : { ...old, must_change_password: true })),
      }),
    [],
  );

  // biome-ignore lint/correctness/useExhaustiveDependencies: `attempt` only asks for another try.
  useEffect(() => {
    if (getToken() === null) return;
    const controller = new AbortController();
    getMe(controller.signal)
      .then((me) => {
        if (controller.signal.aborted) return;
        setUser(me);
        setRestoring(false);
      })
      .catch((error: unknown) => {
        if (!controller.signal.aborted) setRestoreError(error);
      });
    return () => controller.abort();
  }, [attempt]);

  const session = useMemo<Session>(
    () => ({
      user,
      notice,
      restoring,
      restoreError,
      retryRestore: () => {
        setRestoreError(undefined);
        setAttempt((old) => old + 1);
      },
      health: health.data,
      healthError: health.error,
      refreshHealth: health.refresh,
      signedIn: (answer) => {
        setToken(answer.token);
        setNotice(null);
        setUser(answer.user);
      },
      signOut: () => {
        setToken(null);
        setNotice(null);
        setRestoring(false);
        setUser(null);
      },
    }),
    [user, notice, restoring, restoreError, health.data, health.error, health.refresh],
  );
  return <SessionContext value={session}>{children}</SessionContext>;
}
