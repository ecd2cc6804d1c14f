import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { visit } from "../test/app";
import { backtest, page, report } from "../test/fixtures";
import { problem } from "../test/server";

const RULE = "title: Mine\ndetection: x";
const DONE = backtest();

describe("backtests", () => {
  it("are asked for with pasted and uploaded rules, and lead to their page", async () => {
    const asked = backtest({ state: "queued", result: null });
    const { server, person } = visit("#/backtests", {
      "GET /backtests": page([]),
      "POST /backtests": { status: 202, body: asked },
      "GET /backtests/bt-1": { body: asked },
    });
    await screen.findByText("No rules were tried yet.");
    const start = screen.getByRole("button", { name: "Start backtest" });
    expect(start).toHaveProperty("disabled", true);

    await person.click(screen.getByLabelText("Sigma rules"));
    await person.paste(RULE);
    const file = new File(["title: Other"], "other.yml", { type: "text/yaml" });
    await person.upload(screen.getByLabelText("Or files of rules"), file);
    await person.selectOptions(screen.getByLabelText("They come"), "In place of those");
    await waitFor(() => expect(start).toHaveProperty("disabled", false));
    for (const [name, value] of [
      ["From (UTC)", "2026-01-01T00:00"],
      ["To (UTC)", "2026-01-03T00:00"],
    ] as const) {
      await person.clear(screen.getByLabelText(name));
      await person.type(screen.getByLabelText(name), value);
    }
    await person.click(start);
    await screen.findByText("Waits for its turn.");
    expect(window.location.hash).toBe("#/backtests/bt-1");
    expect(server.to("POST /backtests").map((call) => call.body)).toEqual([
      {
        rules: [
          { name: "other.yml", text: "title: Other" },
          { name: "pasted.yml", text: RULE },
        ],
        baseline: "in_force",
        on_top: false,
        from: "2026-01-01T00:00:00Z",
        to: "2026-01-03T00:00:00Z",
      },
    ]);
  });

  it("show rule by rule what would change, with examples and who is affected", async () => {
    const { person } = visit("#/backtests/bt-1", { "GET /backtests/bt-1": { body: DONE } });
    const rules = within(await screen.findByRole("table", { name: "Rules whose alerts differ" }));
    const row = rules.getByText("Trail stopped").closest("tr");
    expect(row?.textContent).toContain("Changed, mine.yml");
    expect(row?.textContent).toContain("1.5 → 3");
    expect(screen.getByText("3 alerts, 1.5 a day (2 rules, 0 correlations)")).toBeTruthy();
    await person.click(screen.getByText("Trail stopped: examples"));
    const examples = screen.getByRole("table", { name: "Examples of Trail stopped" });
    expect(examples.textContent).toContain("ev-1, ev-2, ev-3");
    expect(examples.textContent).toContain("203.0.113.77");
    const affected = screen.getByRole("table", { name: "Principals most affected" });
    expect(affected.textContent).toContain("ci-deploy");
    expect(screen.queryByRole("button", { name: "Cancel" })).toBeNull();
  });

  it("say when nothing differs, and what was refused or could not be read", async () => {
    const refused = [{ file: "mine.yml", line: 3, field: null, reason: "no condition" }];
    const result = report({ rules: [], principals: [], unreadable: ["archive object x: cut off"] });
    result.candidate = { ...result.candidate, refused, refused_count: 1 };
    visit("#/backtests/bt-1", { "GET /backtests/bt-1": { body: backtest({ result }) } });
    await screen.findByText("No alert is gained or lost.");
    expect(screen.getByText("mine.yml:3: no condition")).toBeTruthy();
    expect(screen.getByText("archive object x: cut off")).toBeTruthy();
  });

  it("show their progress and are cancelled", async () => {
    const running = backtest({
      state: "running",
      progress: { days_done: 1, days_total: 4, events: 1200 },
      result: null,
    });
    const { server, person } = visit("#/backtests/bt-1", {
      "GET /backtests/bt-1": { body: running },
      "POST /backtests/bt-1/cancel": { body: backtest({ state: "cancelled", result: null }) },
    });
    await screen.findByText("1 of 4 days of accounts, 1,200 events.");
    expect(screen.getByRole("progressbar", { name: "Progress" })).toHaveProperty("value", 1);
    server.set({
      "GET /backtests/bt-1": { body: backtest({ state: "cancelled", result: null }) },
    });
    await person.click(screen.getByRole("button", { name: "Cancel" }));
    await screen.findByText("Cancelled");
    expect(server.to("POST /backtests/bt-1/cancel")).toHaveLength(1);
    expect(screen.queryByRole("progressbar")).toBeNull();
  });

  it("tell why one failed, and why one was refused", async () => {
    const error = "no rule could be loaded: mine.yml: line 1: no condition";
    const failed = backtest({ state: "failed", error, result: null });
    const { server, person } = visit("#/backtests", {
      "GET /backtests": page([failed]),
      "GET /backtests/bt-1": { body: failed },
      "POST /backtests": problem(409, "Conflict", "10 backtests wait or run"),
    });
    await screen.findByText(error);
    await person.type(screen.getByLabelText("Sigma rules"), "title: x");
    await person.click(screen.getByRole("button", { name: "Start backtest" }));
    expect((await screen.findByRole("alert")).textContent).toContain("10 backtests wait or run");
    expect(server.to("POST /backtests")).toHaveLength(1);
    await person.click(screen.getByRole("link", { name: "mine.yml" }));
    expect((await screen.findByRole("alert")).textContent).toContain("no rule could be loaded");
  });

  it("are only looked at by who may not start them", async () => {
    const running = backtest({ state: "running", result: null });
    visit("#/backtests", { "GET /backtests": page([running]) }, "analyst");
    await screen.findByRole("link", { name: "mine.yml" });
    expect(screen.queryByRole("button", { name: "Start backtest" })).toBeNull();
  });
});
