import { describe, expect, it, vi } from "vitest";
import { fakeServer, problem } from "../test/server";
import { ApiError, onSessionEvents, queryString, request } from "./client";
import { setToken } from "./token";

async function failure(work: Promise<unknown>): Promise<ApiError> {
  const error = await work.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(ApiError);
  return error as ApiError;
}

function listen() {
  const events = { expired: vi.fn(), passwordChangeRequired: vi.fn() };
  onSessionEvents(events);
  return events;
}

describe("request", () => {
  it("sends the token, the query without empty values and the JSON body", async () => {
    const server = fakeServer({ "POST /things": { status: 201, body: { ok: true } } });
    setToken("abc");
    const query = { level: "high", q: "", state: null, limit: 5 };
    const answer = await request("/things", { method: "POST", query, body: { a: 1 } });
    expect(answer).toEqual({ ok: true });
    expect(server.calls[0]?.token).toBe("Bearer abc");
    expect(server.calls[0]?.query.toString()).toBe("level=high&limit=5");
    expect(server.calls[0]?.body).toEqual({ a: 1 });
  });

  it("turns a problem document into an ApiError", async () => {
    fakeServer({ "GET /alerts/x": problem(404, "Not found", "There is no such alert.") });
    const error = await failure(request("/alerts/x"));
    expect(error).toMatchObject({
      status: 404,
      title: "Not found",
      detail: "There is no such alert.",
    });
  });

  it("reads how long to wait from Retry-After", async () => {
    fakeServer({
      "POST /auth/login": {
        ...problem(429, "Locked", "Too many."),
        headers: { "Retry-After": "30" },
      },
    });
    const error = await failure(request("/auth/login", { method: "POST", session: false }));
    expect(error.retryAfter).toBe(30);
  });

  it("says what is known when an error answer is not a problem document", async () => {
    vi.stubGlobal("fetch", async () => new Response("<html>", { status: 502 }));
    const error = await failure(request("/stats"));
    expect(error.status).toBe(502);
    expect(error.title).toContain("502");
  });

  it("reports an answer that is not JSON instead of passing it on", async () => {
    vi.stubGlobal("fetch", async () => new Response("<html>", { status: 200 }));
    expect((await failure(request("/stats"))).title).toBe("Unreadable answer");
  });

  it("reports an unreachable server with status 0, and passes an abort on as it is", async () => {
    vi.stubGlobal("fetch", async () => Promise.reject(new TypeError("failed")));
    expect((await failure(request("/stats"))).status).toBe(0);
    const abort = new DOMException("stopped", "AbortError");
    vi.stubGlobal("fetch", async () => Promise.reject(abort));
    await expect(request("/stats")).rejects.toBe(abort);
  });

  it("returns nothing for an answer without a body", async () => {
    fakeServer({ "DELETE /tokens/t1": { status: 204 } });
    await expect(request("/tokens/t1", { method: "DELETE" })).resolves.toBeUndefined();
  });
});

describe("session events", () => {
  it("announces the session's end on 401, but not for wrong credentials", async () => {
    const events = listen();
    fakeServer({
      "GET /stats": problem(401, "Unauthorized", "Expired."),
      "POST /auth/login": problem(401, "Wrong credentials", ""),
    });
    await failure(request("/auth/login", { method: "POST", session: false }));
    expect(events.expired).not.toHaveBeenCalled();
    await failure(request("/stats"));
    expect(events.expired).toHaveBeenCalledOnce();
  });

  it("ignores a 401 for a token that has been replaced meanwhile", async () => {
    const events = listen();
    setToken("old");
    vi.stubGlobal("fetch", async () => {
      setToken("new");
      return new Response("{}", { status: 401 });
    });
    await failure(request("/stats"));
    expect(events.expired).not.toHaveBeenCalled();
  });

  it("tells a required password change from other refusals", async () => {
    const events = listen();
    fakeServer({
      "GET /a": problem(403, "Forbidden", "Not for viewers."),
      "GET /b": problem(403, "Change it", "", "https://example.org/password-change-required"),
    });
    await failure(request("/a"));
    expect(events.passwordChangeRequired).not.toHaveBeenCalled();
    await failure(request("/b"));
    expect(events.passwordChangeRequired).toHaveBeenCalledOnce();
  });
});

describe("queryString", () => {
  it("escapes what would break the address", () => {
    expect(queryString({ principal: "arn:aws:iam::1:user/a&b" })).toBe(
      "?principal=arn%3Aaws%3Aiam%3A%3A1%3Auser%2Fa%26b",
    );
    expect(queryString({})).toBe("");
  });
});
