// Users and tokens, for administrators: who may sign in with which role, and
// which programs may send logs.

import { EmptyState } from "../components/EmptyState";
import { PageHead } from "../components/PageHead";
import { useUser } from "../session";
import { TokensSection } from "./settings/Tokens";
import { UsersSection } from "./settings/Users";

export function SettingsPage() {
  const user = useUser();
  return (
    <>
      <PageHead title="Users and tokens" />
      {user.role === "admin" ? (
        <>
          <UsersSection />
          <TokensSection />
        </>
      ) : (
        <EmptyState title="Only administrators can see this page." />
      )}
    </>
  );
}
