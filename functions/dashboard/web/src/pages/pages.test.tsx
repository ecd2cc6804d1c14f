import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { OVERVIEW, visit } from "../test/app";
import { alert, health, incidentDetail, killSwitch, page, response } from "../test/fixtures";
import { asUtc } from "./Events";

describe("the overview", () => {
  it("shows mode, kill switch, counts, what waits and what is contained", async () => {
    visit("", {
      ...OVERVIEW,
      "GET /health": { body: health({ kill_switch: true }) },
      "GET /kill-switch": { body: killSwitch({ on: true, by: "root", reason: "A drill." }) },
      "GET /alerts": page([alert()]),
      "GET /responses": ({ query }) =>
        query.get("state") === "contained"
          ? page([
              response({ response_id: "re-2", state: "contained", access_key_id: "AKIACONTAINED" }),
            ])
          : query.get("state") === "awaiting_approval"
            ? page([response()])
            : page([]),
    });
    await screen.findByRole("heading", { name: "Waiting for a person" });
    const part = (name: string) => within(screen.getByRole("region", { name }));
    expect(part("Response mode").getByText("Approve")).toBeTruthy();
    expect(part("Response mode").getByText("Kill switch: on")).toBeTruthy();
    expect(part("Open incidents").getByText("4")).toBeTruthy();
    expect(part("Alerts by level").getByText("7")).toBeTruthy();
    expect(part("Waiting for a person").getByText(/AKIAIOSFODNN7EXAMPLE/)).toBeTruthy();
    expect(part("Contained keys").getByText(/AKIACONTAINED/)).toBeTruthy();
    expect(part("Latest alerts").getByText("CloudTrail logging stopped")).toBeTruthy();
  });

  it("is calm when there is nothing", async () => {
    visit("", OVERVIEW);
    await screen.findByText("No key is contained at the moment.");
    expect(screen.queryByRole("heading", { name: "Waiting for a person" })).toBeNull();
    expect(screen.getByText("No alerts yet.")).toBeTruthy();
  });
});

describe("an incident", () => {
  it("tells its alerts in the order in which they happened", async () => {
    const at = (alert_id: string, time: string) => alert({ alert_id, time, title: alert_id });
    visit("#/incidents/in-1", {
      "GET /incidents/in-1": {
        body: incidentDetail({
          alerts: [
            at("b-third", "2026-01-02T03:30:00Z"),
            at("c-first", "2026-01-02T03:00:00+01:00"),
            at("a-second", "2026-01-02T03:10:00Z"),
          ],
          alert_count: 3,
          responses: [response({ state: "contained" })],
        }),
      },
    });
    const timeline = within(await screen.findByRole("list", { name: /oldest first/ }));
    expect(timeline.getAllByRole("link").map((link) => link.textContent)).toEqual([
      "c-first",
      "a-second",
      "b-third",
    ]);
    expect(
      screen.getByText("Deactivated access key AKIAIOSFODNN7EXAMPLE of ci-deploy"),
    ).toBeTruthy();
    expect(screen.getByText("35 min")).toBeTruthy();
  });
});

describe("the event search", () => {
  it("says what a search without an index can't find", async () => {
    const limited = "Stored events are not searched.";
    visit("#/events?q=x", { "GET /events": { body: { items: [], next_cursor: null, limited } } });
    expect((await screen.findByRole("note")).textContent).toBe(limited);
    expect(screen.queryByText("No event fits.")).toBeNull();
  });

  it("asks with times read as UTC, only when told to", async () => {
    const { server, person } = visit("#/events", { "GET /events": page([]) });
    await screen.findByText("No event fits.");
    await person.type(screen.getByLabelText("Text"), "StopLogging");
    expect(server.to("GET /events")).toHaveLength(1);
    await person.click(screen.getByRole("button", { name: "Search" }));
    await waitFor(() => expect(server.to("GET /events")).toHaveLength(2));
    expect(server.to("GET /events")[1]?.query.get("q")).toBe("StopLogging");
    expect(asUtc("2026-01-02T03:04")).toBe("2026-01-02T03:04:00Z");
    expect(asUtc("")).toBe("");
  });
});

describe("users and tokens", () => {
  const routes = {
    "GET /users": {
      body: {
        items: [
          {
            username: "maria",
            role: "admin",
            created_at: "2026-01-01T00:00:00Z",
            disabled: false,
            principals: [],
          },
          {
            username: "vera",
            role: "viewer",
            created_at: "2026-01-01T00:00:00Z",
            disabled: false,
            principals: [],
          },
        ],
      },
    },
    "GET /tokens": { body: { items: [{ id: "t1", name: "forwarder", scopes: ["logs:write"] }] } },
  };

  it("is not for others than administrators", async () => {
    const { server } = visit("#/settings", routes, "analyst");
    await screen.findByText("Only administrators can see this page.");
    expect(screen.queryByRole("link", { name: "Users and tokens" })).toBeNull();
    expect(server.to("GET /users")).toHaveLength(0);
  });

  it("disables another user, but never oneself", async () => {
    const { server, person } = visit("#/settings", {
      ...routes,
      "PATCH /users/vera": { body: {} },
    });
    await person.click(await screen.findByRole("button", { name: "Disable vera" }));
    await waitFor(() =>
      expect(server.to("PATCH /users/vera")[0]?.body).toEqual({ disabled: true }),
    );
    expect(screen.queryByRole("button", { name: "Disable maria" })).toBeNull();
  });

  it("shows a new token once, and asks before one is revoked", async () => {
    const { server, person } = visit("#/settings", {
      ...routes,
      "POST /tokens": {
        status: 201,
        body: { id: "t2", name: "x", scopes: [], token: "secret-once" },
      },
      "DELETE /tokens/t1": { status: 204 },
    });
    await person.click(await screen.findByText("Create a token"));
    await person.type(screen.getByLabelText("Name"), "lambda");
    await person.click(screen.getByRole("button", { name: "Create token" }));
    await screen.findByText("secret-once");
    expect(server.to("POST /tokens")[0]?.body).toEqual({
      name: "lambda",
      scopes: ["logs:write"],
      expires_in_days: 90,
    });
    await person.click(screen.getByRole("button", { name: "Revoke forwarder" }));
    expect(server.to("DELETE /tokens/t1")).toHaveLength(0);
    await person.click(screen.getByRole("button", { name: "Revoke token" }));
    await waitFor(() => expect(server.to("DELETE /tokens/t1")).toHaveLength(1));
  });
});

describe("an unknown address", () => {
  it("says so", async () => {
    visit("#/nowhere", {});
    await screen.findByRole("heading", { name: "Not found" });
  });
});
