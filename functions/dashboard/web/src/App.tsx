// Decides what is on screen: sign-in, forced password change, or the page that
// the address names inside the shell.

import { useEffect } from "react";
import { Banners } from "./components/Banners";
import { ErrorBanner } from "./components/ErrorBanner";
import { Loading } from "./components/Loading";
import { Shell } from "./components/Shell";
import { type Route, useRoute } from "./lib/router";
import { AlertDetailPage } from "./pages/AlertDetail";
import { AlertsPage } from "./pages/Alerts";
import { BacktestDetailPage } from "./pages/BacktestDetail";
import { BacktestsPage } from "./pages/Backtests";
import { ChangePasswordPage } from "./pages/ChangePassword";
import { EventsPage } from "./pages/Events";
import { IncidentDetailPage } from "./pages/IncidentDetail";
import { IncidentsPage } from "./pages/Incidents";
import { LoginPage } from "./pages/Login";
import { NotFoundPage } from "./pages/NotFound";
import { OverviewPage } from "./pages/Overview";
import { ResponseDetailPage } from "./pages/ResponseDetail";
import { ResponsesPage } from "./pages/Responses";
import { SettingsPage } from "./pages/Settings";
import { SessionProvider, useSession } from "./session";

export function App() {
  return (
    <SessionProvider>
      <Screen />
    </SessionProvider>
  );
}

function Screen() {
  const session = useSession();
  const route = useRoute();
  const title = titleOf(route);
  useEffect(() => {
    document.title = session.user === null ? "Sign in · CloudSentinel" : `${title} · CloudSentinel`;
  }, [session.user, title]);

  if (session.user === null && session.restoring) {
    return (
      <Centered>
        {session.restoreError === undefined ? (
          <Loading what="your session" />
        ) : (
          <ErrorBanner error={session.restoreError} onRetry={session.retryRestore} />
        )}
      </Centered>
    );
  }
  if (session.user === null) {
    return (
      <Centered>
        <LoginPage />
      </Centered>
    );
  }
  if (session.user.must_change_password) {
    return (
      <Centered>
        <ChangePasswordPage forced />
      </Centered>
    );
  }
  return (
    <Shell section={route.path[0] ?? ""} address={route.path.join("/")}>
      <View route={route} />
    </Shell>
  );
}

function Centered({ children }: { children: React.ReactNode }) {
  return (
    <div className="centered">
      <Banners />
      <main className="centered-card">
        <p className="brand">CloudSentinel</p>
        {children}
      </main>
    </div>
  );
}

function View({ route }: { route: Route }) {
  const [section, id] = route.path;
  // The key gives every item its own page state: no form text leaks between two.
  switch (section) {
    case undefined:
      return <OverviewPage />;
    case "alerts":
      return id === undefined ? (
        <AlertsPage query={route.query} />
      ) : (
        <AlertDetailPage key={id} alertId={id} />
      );
    case "incidents":
      return id === undefined ? (
        <IncidentsPage query={route.query} />
      ) : (
        <IncidentDetailPage key={id} incidentId={id} />
      );
    case "responses":
      return id === undefined ? (
        <ResponsesPage query={route.query} />
      ) : (
        <ResponseDetailPage key={id} responseId={id} />
      );
    case "events":
      return <EventsPage query={route.query} />;
    case "backtests":
      return id === undefined ? <BacktestsPage /> : <BacktestDetailPage key={id} backtestId={id} />;
    case "settings":
      return <SettingsPage />;
    case "password":
      return <ChangePasswordPage />;
    default:
      return <NotFoundPage />;
  }
}

const TITLES: Record<string, string> = {
  alerts: "Alerts",
  incidents: "Incidents",
  responses: "Responses",
  events: "Events",
  backtests: "Backtests",
  settings: "Users and tokens",
  password: "Change password",
};

function titleOf(route: Route): string {
  const section = route.path[0];
  return section === undefined ? "Overview" : (TITLES[section] ?? "Not found");
}
