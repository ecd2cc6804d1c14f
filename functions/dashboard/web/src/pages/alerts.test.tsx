import { act, fireEvent, screen, waitFor, within } from "@testing-library/react";
import { describe, expect, it, vi } from "vitest";
import { POLL_MS } from "../hooks/usePoll";
import { visit } from "../test/app";
import { alert, alertDetail, page } from "../test/fixtures";
import { problem } from "../test/server";

describe("the alerts list", () => {
  it("shows level, title, reason, principal and time of each alert", async () => {
    visit("#/alerts", { "GET /alerts": page([alert()]) });
    const row = (await screen.findByText("CloudTrail logging stopped")).closest("tr");
    if (row === null) throw new Error("the alert is not in a table row");
    const cells = within(row);
    expect(cells.getByText("Critical")).toBeTruthy();
    expect(cells.getByText("ci-deploy stopped the trail org-trail.")).toBeTruthy();
    expect(cells.getByText("ci-deploy")).toBeTruthy();
    expect(cells.getByText("2026-01-02 03:04:05 UTC")).toBeTruthy();
    expect(cells.getByText("CloudTrail logging stopped").getAttribute("href")).toBe(
      "#/alerts/al-1",
    );
    expect(screen.getAllByRole("columnheader").map((head) => head.textContent)).toContain("Level");
  });

  it("asks the server for what the filters say, and keeps them in the address", async () => {
    const { server, person } = visit("#/alerts", { "GET /alerts": page([alert()]) });
    await screen.findByText("CloudTrail logging stopped");
    expect(server.to("GET /alerts")[0]?.query.toString()).toBe("limit=50");

    await person.selectOptions(screen.getByLabelText("Level"), "high");
    await person.selectOptions(screen.getByLabelText("State"), "acknowledged");
    await person.type(screen.getByLabelText("Text"), "203.0.113.77 & co");
    await waitFor(() => {
      const last = server.to("GET /alerts").at(-1)?.query;
      expect(Object.fromEntries(last ?? [])).toEqual({
        level: "high",
        state: "acknowledged",
        q: "203.0.113.77 & co",
        limit: "50",
      });
    });
    expect(window.location.hash).toBe(
      "#/alerts?level=high&state=acknowledged&q=203.0.113.77+%26+co",
    );
  });

  it("takes filters from a link and lets them be removed", async () => {
    const { server, person } = visit("#/alerts?principal=arn%3Ax", { "GET /alerts": page([]) });
    await screen.findByText("No alert fits these filters.");
    expect(server.to("GET /alerts")[0]?.query.get("principal")).toBe("arn:x");
    await person.click(screen.getByRole("button", { name: /Principal: arn:x/ }));
    await screen.findByText("No alerts yet.");
    expect(server.to("GET /alerts").at(-1)?.query.has("principal")).toBe(false);
  });

  it("loads the next page with the cursor, once, and keeps the first", async () => {
    const { server, person } = visit("#/alerts", {
      "GET /alerts": ({ query }) =>
        query.get("cursor") === "c1"
          ? page([alert(), alert({ alert_id: "al-2", title: "Older one" })])
          : page([alert()], "c1"),
    });
    await person.click(await screen.findByRole("button", { name: "Load more" }));
    await screen.findByText("Older one");
    expect(screen.getAllByText("CloudTrail logging stopped")).toHaveLength(1);
    expect(screen.queryByRole("button", { name: "Load more" })).toBeNull();
    expect(server.to("GET /alerts").filter((call) => call.query.has("cursor"))).toHaveLength(1);
  });

  it("offers to search on when a page holds nothing that fits", async () => {
    const { person } = visit("#/alerts?q=x&level=high", {
      "GET /alerts": ({ query }) =>
        query.get("cursor") === "c1" ? page([alert()]) : page([], "c1"),
    });
    await person.click(await screen.findByRole("button", { name: "Load more" }));
    await screen.findByText("CloudTrail logging stopped");
  });

  it("says what its search can't find, and nothing when it finds everything", async () => {
    const limited = "Alerts are found by words, a thousand at a time.";
    const { server, person } = visit("#/alerts?q=x", {
      "GET /alerts": { body: { items: [alert()], next_cursor: null, limited } },
    });
    expect((await screen.findByRole("note")).textContent).toBe(limited);
    expect(screen.getByText("CloudTrail logging stopped")).toBeTruthy();
    server.set({ "GET /alerts": page([alert()]) });
    await person.selectOptions(screen.getByLabelText("Level"), "high");
    await waitFor(() => expect(screen.queryByRole("note")).toBeNull());
  });

  it("shows an error with a way to try again", async () => {
    const { server, person } = visit("#/alerts", {
      "GET /alerts": problem(503, "Store is busy", "No answer within 5 s."),
    });
    expect((await screen.findByRole("alert")).textContent).toContain("No answer within 5 s.");
    server.set({ "GET /alerts": page([alert()]) });
    await person.click(screen.getByRole("button", { name: "Try again" }));
    await screen.findByText("CloudTrail logging stopped");
    expect(screen.queryByRole("alert")).toBeNull();
  });
});

describe("polling", () => {
  const hide = (hidden: boolean) => {
    vi.spyOn(document, "visibilityState", "get").mockReturnValue(hidden ? "hidden" : "visible");
    document.dispatchEvent(new Event("visibilitychange"));
  };

  it("brings new alerts while visible, rests while hidden, and keeps old data on failure", async () => {
    vi.useFakeTimers();
    const { server } = visit("#/alerts", { "GET /alerts": page([alert()]) });
    const pass = (time: number) => act(() => vi.advanceTimersByTimeAsync(time));
    await pass(10);
    expect(screen.getByText("CloudTrail logging stopped")).toBeTruthy();

    server.set({ "GET /alerts": page([alert({ alert_id: "al-9", title: "Brand new" })]) });
    await pass(POLL_MS + 10);
    expect(screen.getByText("Brand new")).toBeTruthy();

    hide(true);
    await pass(POLL_MS + 10);
    const asked = server.to("GET /alerts").length;
    await pass(POLL_MS * 5);
    expect(server.to("GET /alerts")).toHaveLength(asked);

    server.set({ "GET /alerts": problem(503, "Busy", "Later.") });
    hide(false);
    await pass(10);
    expect(server.to("GET /alerts")).toHaveLength(asked + 1);
    expect(screen.getByRole("alert").textContent).toContain("What you see is from before.");
    expect(screen.getByText("Brand new")).toBeTruthy();
  });
});

describe("an alert", () => {
  it("saves state, verdict and note with the version that was on screen", async () => {
    const { server, person } = visit("#/alerts/al-1", {
      "GET /alerts/al-1": { body: alertDetail() },
      "PATCH /alerts/al-1": { body: alertDetail({ state: "closed", version: 4 }) },
    });
    const save = await screen.findByRole("button", { name: "Save" });
    expect(save).toHaveProperty("disabled", true);
    await person.selectOptions(screen.getByLabelText("State"), "closed");
    await person.selectOptions(screen.getByLabelText("Verdict"), "false_positive");
    await person.type(screen.getByLabelText("Note"), "planned work");
    await person.click(save);
    await screen.findByText("Saved.");
    expect(server.to("PATCH /alerts/al-1").map((call) => call.body)).toEqual([
      { state: "closed", verdict: "false_positive", note: "planned work", version: 3 },
    ]);
  });

  it("sends only what was changed", async () => {
    const { server, person } = visit("#/alerts/al-1", {
      "GET /alerts/al-1": { body: alertDetail({ verdict: "true_positive" }) },
      "PATCH /alerts/al-1": { body: alertDetail({ version: 4 }) },
    });
    await person.selectOptions(await screen.findByLabelText("Verdict"), "");
    await person.click(screen.getByRole("button", { name: "Save" }));
    await screen.findByText("Saved.");
    expect(server.to("PATCH /alerts/al-1").map((call) => call.body)).toEqual([
      { verdict: null, version: 3 },
    ]);
  });

  it("keeps what was typed on a conflict and loads the newest version when asked", async () => {
    const { server, person } = visit("#/alerts/al-1", {
      "GET /alerts/al-1": { body: alertDetail() },
      "PATCH /alerts/al-1": problem(409, "Stale version", "The alert has version 4."),
    });
    await person.type(await screen.findByLabelText("Note"), "mine");
    await person.click(screen.getByRole("button", { name: "Save" }));
    expect((await screen.findByRole("alert")).textContent).toContain("nothing was saved");
    expect(screen.getByLabelText("Note")).toHaveProperty("value", "mine");

    server.set({ "GET /alerts/al-1": { body: alertDetail({ note: "theirs", version: 4 }) } });
    await person.click(screen.getByRole("button", { name: "Load newest version" }));
    await waitFor(() => expect(screen.getByLabelText("Note")).toHaveProperty("value", "theirs"));
    server.set({ "PATCH /alerts/al-1": { body: alertDetail({ version: 5 }) } });
    await person.selectOptions(screen.getByLabelText("State"), "acknowledged");
    await person.click(screen.getByRole("button", { name: "Save" }));
    await screen.findByText("Saved.");
    expect(server.to("PATCH /alerts/al-1").at(-1)?.body).toMatchObject({ version: 4 });
  });

  it("doesn't slip a polled version under an edit, so that a conflict stays one", async () => {
    vi.useFakeTimers();
    const { server } = visit("#/alerts/al-1", {
      "GET /alerts/al-1": { body: alertDetail() },
      "PATCH /alerts/al-1": { body: alertDetail() },
    });
    const pass = (time: number) => act(() => vi.advanceTimersByTimeAsync(time));
    await pass(10);
    fireEvent.change(screen.getByLabelText("Note"), { target: { value: "mine" } });
    server.set({ "GET /alerts/al-1": { body: alertDetail({ note: "theirs", version: 4 }) } });
    await pass(POLL_MS + 10);
    fireEvent.click(screen.getByRole("button", { name: "Save" }));
    await pass(10);
    expect(server.to("PATCH /alerts/al-1")[0]?.body).toMatchObject({ note: "mine", version: 3 });
  });

  it("offers viewers nothing to change, and shows the raw record closed", async () => {
    visit("#/alerts/al-1", { "GET /alerts/al-1": { body: alertDetail() } }, "viewer");
    await screen.findByText(/Analysts and administrators can change/);
    expect(screen.queryByRole("button", { name: "Save" })).toBeNull();
    const record = screen.getByText(/"eventName": "StopLogging"/).closest("details");
    expect(record?.open).toBe(false);
  });

  it("links ATT&CK techniques without telling where it came from", async () => {
    visit("#/alerts/al-1", { "GET /alerts/al-1": { body: alertDetail() } });
    const link = await screen.findByRole("link", { name: /T1562\.008/ });
    expect(link.getAttribute("href")).toBe("https://attack.mitre.org/techniques/T1562/008/");
    expect(link.getAttribute("rel")).toContain("noreferrer");
  });
});
