import { screen, waitFor } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { getToken } from "../api/token";
import { OVERVIEW, visit } from "../test/app";
import { health, page, user } from "../test/fixtures";
import { problem } from "../test/server";

const answer = (token: string, must_change_password: boolean) => ({
  body: {
    token,
    expires_at: "2026-01-02T03:04:05Z",
    user: { ...user(), must_change_password },
  },
});

describe("signing in", () => {
  it("leads to the forced password change, then to the overview with the new token", async () => {
    const { server, person } = visit(
      "",
      {
        ...OVERVIEW,
        "POST /auth/login": answer("first", true),
        "POST /auth/password": answer("second", false),
      },
      null,
    );
    await person.type(screen.getByLabelText("Username"), "maria");
    await person.type(screen.getByLabelText("Password"), "handed-out");
    await person.click(screen.getByRole("button", { name: "Sign in" }));

    await screen.findByRole("heading", { name: "Choose your own password" });
    expect(server.to("POST /auth/login")[0]?.body).toEqual({
      username: "maria",
      password: "handed-out",
    });
    expect(server.to("GET /stats")).toHaveLength(0);

    await person.type(screen.getByLabelText("Current password"), "handed-out");
    await person.type(screen.getByLabelText("New password"), "my own long one");
    await person.type(screen.getByLabelText("New password again"), "a typo");
    await person.click(screen.getByRole("button", { name: "Save new password" }));
    expect((await screen.findByRole("alert")).textContent).toContain("not the same");
    expect(server.to("POST /auth/password")).toHaveLength(0);

    await person.clear(screen.getByLabelText("New password again"));
    await person.type(screen.getByLabelText("New password again"), "my own long one");
    await person.click(screen.getByRole("button", { name: "Save new password" }));

    await screen.findByRole("heading", { name: "Overview" });
    expect(server.to("POST /auth/password")[0]).toMatchObject({
      body: { current_password: "handed-out", new_password: "my own long one" },
      token: "Bearer first",
    });
    expect(getToken()).toBe("second");
    await waitFor(() => expect(server.to("GET /stats")[0]?.token).toBe("Bearer second"));
  });

  it("says why it failed and how long to wait", async () => {
    const { server, person } = visit(
      "",
      { "POST /auth/login": problem(401, "Wrong credentials", "Name or password is wrong.") },
      null,
    );
    await person.type(screen.getByLabelText("Username"), "maria");
    await person.type(screen.getByLabelText("Password"), "x");
    await person.click(screen.getByRole("button", { name: "Sign in" }));
    expect((await screen.findByRole("alert")).textContent).toContain("Name or password is wrong.");

    server.set({
      "POST /auth/login": {
        ...problem(429, "Locked", "Too many tries."),
        headers: { "Retry-After": "120" },
      },
    });
    await person.click(screen.getByRole("button", { name: "Sign in" }));
    await waitFor(() =>
      expect(screen.getByRole("alert").textContent).toContain("Try again in 2 min."),
    );
    expect(getToken()).toBeNull();
  });
});

describe("the session", () => {
  it("returns to the sign-in when the server answers 401", async () => {
    visit("#/alerts", { "GET /alerts": problem(401, "Unauthorized", "Expired.") });
    await screen.findByRole("heading", { name: "Sign in" });
    expect(screen.getByText(/session has ended/)).toBeTruthy();
    expect(getToken()).toBeNull();
    expect(window.location.hash).toBe("#/alerts");
  });

  it("leads to the password change when any call demands it", async () => {
    visit("#/alerts", {
      "GET /alerts": problem(403, "Change it", "", "/problems/password-change-required"),
    });
    await screen.findByRole("heading", { name: "Choose your own password" });
  });

  it("keeps the page when an administrator's call is merely forbidden", async () => {
    visit("#/alerts", { "GET /alerts": problem(403, "Forbidden", "Not for you.") });
    expect((await screen.findByRole("alert")).textContent).toContain("Not for you.");
    expect(screen.getByRole("heading", { name: "Alerts" })).toBeTruthy();
  });

  it("offers a retry when the token could not be checked after a reload", async () => {
    const { server, person } = visit("", {
      ...OVERVIEW,
      "GET /auth/me": problem(503, "Busy", "Later."),
    });
    await screen.findByRole("alert");
    server.set({ "GET /auth/me": { body: user() } });
    await person.click(screen.getByRole("button", { name: "Try again" }));
    await screen.findByRole("heading", { name: "Overview" });
  });

  it("forgets the token at sign-out", async () => {
    const { person } = visit("", OVERVIEW);
    await person.click(await screen.findByRole("button", { name: "Sign out" }));
    await screen.findByRole("heading", { name: "Sign in" });
    expect(getToken()).toBeNull();
  });
});

describe("banners", () => {
  const words = "Simulated AWS account: nothing here touches a real one.";
  const shown = () =>
    screen.queryAllByRole("note").some((note) => note.textContent?.trim() === words);

  it("says that the account is simulated, on the sign-in too", async () => {
    visit("", { "GET /health": { body: health({ simulated_account: true }) } }, null);
    expect(shown()).toBe(false);
    await waitFor(() => expect(shown()).toBe(true));
  });

  it("doesn't say so of a real account", async () => {
    visit("#/alerts", { "GET /alerts": page([]) });
    await screen.findByText(/CloudSentinel 0\.1\.0/);
    expect(shown()).toBe(false);
  });

  it("shows the kill switch and an unreachable server", async () => {
    visit("#/alerts", {
      "GET /alerts": page([]),
      "GET /health": { body: health({ kill_switch: true }) },
    });
    await screen.findByText("Kill switch is on:");
  });
});
