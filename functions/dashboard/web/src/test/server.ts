// A small fake of the dashboard server behind fetch: answers what a test has
// set up, and remembers every call so that tests can check what was sent.

import { vi } from "vitest";

export interface Call {
  method: string;
  path: string;
  query: URLSearchParams;
  body: unknown;
  token: string | null;
}

export interface Answer {
  status?: number;
  body?: unknown;
  headers?: Record<string, string>;
}

/** `"GET /alerts"` -> its answer, or a function of the call. */
export type Routes = Record<string, Answer | ((call: Call) => Answer)>;

export interface FakeServer {
  calls: Call[];
  /** The calls to one route, such as `"POST /responses/re-1/approve"`. */
  to: (route: string) => Call[];
  set: (routes: Routes) => void;
}

export function problem(
  status: number,
  title: string,
  detail: string,
  type = "about:blank",
): Answer {
  return {
    status,
    body: { type, title, status, detail },
    headers: { "Content-Type": "application/problem+json" },
  };
}

export function fakeServer(routes: Routes): FakeServer {
  const calls: Call[] = [];
  const known: Routes = { ...routes };
  vi.stubGlobal("fetch", async (input: string, init: RequestInit = {}) => {
    const url = new URL(input, "http://127.0.0.1");
    const call: Call = {
      method: init.method ?? "GET",
      path: url.pathname.replace(/^\/api\/v1/, ""),
      query: url.searchParams,
      body: typeof init.body === "string" ? JSON.parse(init.body) : undefined,
      token: new Headers(init.headers).get("Authorization"),
    };
    calls.push(call);
    const route = known[`${call.method} ${call.path}`];
    if (route === undefined)
      return respond(problem(404, "No route", `${call.method} ${call.path}`));
    return respond(typeof route === "function" ? route(call) : route);
  });
  return {
    calls,
    to: (route) => calls.filter((call) => `${call.method} ${call.path}` === route),
    set: (more) => {
      Object.assign(known, more);
    },
  };
}

function respond({ status = 200, body, headers = {} }: Answer): Response {
  return new Response(body === undefined ? null : JSON.stringify(body), { status, headers });
}
