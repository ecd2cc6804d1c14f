// Renders the whole application at an address, signed in or not, against a
// fake server: tests see what a person would.

import { render } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { App } from "../App";
import { setToken } from "../api/token";
import type { Role } from "../api/types";
import * as fixture from "./fixtures";
import { type FakeServer, fakeServer, type Routes } from "./server";

export const SIGNED_IN = "token-of-maria";

export interface Visit {
  server: FakeServer;
  person: ReturnType<typeof userEvent.setup>;
}

/** Opens `#/alerts` and the like; `role` null means nobody is signed in. */
export function visit(address: string, routes: Routes, role: Role | null = "admin"): Visit {
  const server = fakeServer({
    "GET /health": { body: fixture.health() },
    ...(role === null ? {} : { "GET /auth/me": { body: fixture.user(role) } }),
    ...routes,
  });
  if (role !== null) setToken(SIGNED_IN);
  window.location.hash = address;
  render(<App />);
  return { server, person: userEvent.setup() };
}

/** What the overview asks for, when a test only passes through it. */
export const OVERVIEW: Routes = {
  "GET /kill-switch": { body: fixture.killSwitch() },
  "GET /stats": { body: fixture.stats() },
  "GET /alerts": fixture.page([]),
  "GET /incidents": fixture.page([]),
  "GET /responses": fixture.page([]),
};
