// The frame of every signed-in page: navigation, who is signed in, the banners,
// and focus that follows the page for keyboard and screen reader users.

import { type ReactNode, useEffect, useRef } from "react";
import { href } from "../lib/router";
import { useSession, useUser } from "../session";
import { Banners } from "./Banners";

const LINKS: [section: string, text: string][] = [
  ["", "Overview"],
  ["alerts", "Alerts"],
  ["incidents", "Incidents"],
  ["responses", "Responses"],
  ["events", "Events"],
  ["backtests", "Backtests"],
];

interface Props {
  section: string;
  /** Changes when another page is shown, not when a filter changes. */
  address: string;
  children: ReactNode;
}

export function Shell({ section, address, children }: Props) {
  const user = useUser();
  const { health, signOut } = useSession();
  const main = useRef<HTMLElement>(null);
  const shown = useRef(address);
  useEffect(() => {
    if (shown.current === address) return;
    shown.current = address;
    window.scrollTo(0, 0);
    main.current?.focus();
  }, [address]);

  const links =
    user.role === "admin" ? [...LINKS, ["settings", "Users and tokens"] as const] : LINKS;
  return (
    <div className="shell">
      <button type="button" className="skip" onClick={() => main.current?.focus()}>
        Skip to content
      </button>
      <Banners />
      <header className="topbar">
        <a className="brand" href="#/">
          CloudSentinel
        </a>
        <nav aria-label="Main">
          <ul>
            {links.map(([name, text]) => (
              <li key={name}>
                <a
                  href={href(name === "" ? [] : [name])}
                  aria-current={name === section ? "page" : undefined}
                >
                  {text}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <div className="whoami">
          <a href={href(["password"])} title="Change password">
            {user.username} <span className="muted">({user.role})</span>
          </a>
          <button type="button" className="button" onClick={signOut}>
            Sign out
          </button>
        </div>
      </header>
      <main ref={main} tabIndex={-1}>
        {children}
      </main>
      <footer className="footer">
        {health !== undefined && <>CloudSentinel {health.version} · </>}All times are UTC.
      </footer>
    </div>
  );
}
