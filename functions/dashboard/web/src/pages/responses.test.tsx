import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, it, vi } from "vitest";
import { visit } from "../test/app";
import { health, page, response } from "../test/fixtures";
import { problem } from "../test/server";

const APPROVE = "POST /responses/re-1/approve";

describe("deciding on a response", () => {
  it("asks first, naming key, account and effect, and posts only when confirmed", async () => {
    const { server, person } = visit("#/responses/re-1", {
      "GET /responses/re-1": { body: response() },
      [APPROVE]: { status: 202, body: response({ state: "approved" }) },
    });
    await person.click(await screen.findByRole("button", { name: /^Approve/ }));
    const dialog = within(screen.getByRole("dialog"));
    expect(dialog.getByText("Deactivate access key AKIAIOSFODNN7EXAMPLE?")).toBeTruthy();
    expect(dialog.getByText("210987654321")).toBeTruthy();
    expect(dialog.getByText(/Every program that uses this key fails/)).toBeTruthy();
    expect(document.activeElement?.textContent).toBe("Cancel");
    expect(server.to(APPROVE)).toHaveLength(0);

    await person.type(dialog.getByLabelText(/Note/), "confirmed with the team");
    await person.click(dialog.getByRole("button", { name: "Deactivate key" }));
    await screen.findByText("Approved; about to act.");
    expect(document.activeElement?.tagName).toBe("MAIN");
    expect(server.to(APPROVE).map((call) => call.body)).toEqual([
      { note: "confirmed with the team" },
    ]);
    expect(screen.queryByRole("dialog")).toBeNull();
    expect(screen.queryByRole("button", { name: /^Approve/ })).toBeNull();
  });

  it("posts nothing when cancelled", async () => {
    const { server, person } = visit("#/responses/re-1", {
      "GET /responses/re-1": { body: response() },
    });
    await person.click(await screen.findByRole("button", { name: /^Deny/ }));
    await person.click(screen.getByRole("button", { name: "Cancel" }));
    expect(screen.queryByRole("dialog")).toBeNull();
    expect(server.calls.filter((call) => call.method !== "GET")).toHaveLength(0);
  });

  it("says why the server refused and shows the present state after a conflict", async () => {
    const { server, person } = visit("#/responses/re-1", {
      "GET /responses/re-1": { body: response() },
      [APPROVE]: problem(403, "Not allowed", "You are the principal concerned."),
    });
    await person.click(await screen.findByRole("button", { name: /^Approve/ }));
    await person.click(screen.getByRole("button", { name: "Deactivate key" }));
    expect((await screen.findByRole("alert")).textContent).toContain("principal concerned");

    server.set({
      [APPROVE]: problem(409, "Already decided", "It was denied."),
      "GET /responses/re-1": { body: response({ state: "denied" }) },
    });
    await person.click(screen.getByRole("button", { name: "Deactivate key" }));
    await waitFor(() => expect(screen.getByRole("alert").textContent).toContain("It was denied."));
    await screen.findByText("An administrator decided against it. Nothing was changed.");
  });

  it("offers undo for a contained key and says whom it helps", async () => {
    const { server, person } = visit("#/responses", {
      "GET /responses": page([response({ state: "contained" })]),
      "POST /responses/re-1/undo": { status: 202, body: response({ state: "undoing" }) },
    });
    await person.click(await screen.findByRole("button", { name: /^Undo/ }));
    const dialog = within(screen.getByRole("dialog"));
    expect(dialog.getByText(/an intruder too/)).toBeTruthy();
    server.set({ "GET /responses": page([response({ state: "undoing" })]) });
    await person.click(dialog.getByRole("button", { name: "Undo" }));
    await screen.findByText("Undoing", { selector: ".badge" });
    expect(server.to("POST /responses/re-1/undo")[0]?.body).toEqual({});
  });

  it.each(["viewer", "analyst"] as const)("offers a %s no decision", async (role) => {
    visit("#/responses/re-1", { "GET /responses/re-1": { body: response() } }, role);
    await screen.findByText(/An administrator must decide/);
    expect(screen.queryByRole("button", { name: /Approve|Deny|Undo/ })).toBeNull();
  });

  it("marks the account as simulated where it is", async () => {
    const { person } = visit("#/responses/re-1", {
      "GET /health": { body: health({ simulated_account: true }) },
      "GET /responses/re-1": { body: response() },
    });
    await person.click(await screen.findByRole("button", { name: /^Approve/ }));
    expect(screen.getByText("210987654321 (simulated)")).toBeTruthy();
  });
});

describe("a response", () => {
  it("shows reasons and the audit trail in words", async () => {
    visit("#/responses/re-1", {
      "GET /responses/re-1": {
        body: response({
          state: "contained",
          steps: [
            {
              at: "2026-01-02T03:06:00Z",
              step: "read_back",
              outcome: "ok",
              detail: { status: "Inactive" },
            },
          ],
        }),
      },
    });
    await screen.findByText("Approval is needed because the response mode is approve.");
    const trail = within(screen.getByRole("list", { name: /Steps of this response/ }));
    expect(trail.getByText("Status: Inactive")).toBeTruthy();
    expect(trail.getByText("2026-01-02 03:06:00 UTC")).toBeTruthy();
  });
});

describe("the responses list", () => {
  it("filters by state", async () => {
    const { server, person } = visit("#/responses", { "GET /responses": page([response()]) });
    await screen.findByText(/Deactivate access key/);
    await person.selectOptions(screen.getByLabelText("State"), "contained");
    await waitFor(() =>
      expect(server.to("GET /responses").at(-1)?.query.get("state")).toBe("contained"),
    );
  });
});

describe("a response that is being carried out", () => {
  it("is asked for every two seconds until it is done", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    const { server } = visit("#/responses/re-1", {
      "GET /responses/re-1": { body: response({ state: "undoing" }) },
    });
    await screen.findByText("The key is being activated again.");
    server.set({ "GET /responses/re-1": { body: response({ state: "undone" }) } });
    await vi.advanceTimersByTimeAsync(2_500);
    await screen.findByText(/The key is active again/);
  });
});

describe("times", () => {
  it("never puts what was just loaded ahead of the clock", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    const { server } = visit("#/responses/re-1", {
      "GET /responses/re-1": { body: response({ state: "undoing" }) },
    });
    await screen.findByText("The key is being activated again.");
    await vi.advanceTimersByTimeAsync(1_000);
    const at = new Date(Date.now() + 500).toISOString();
    const step = { at, step: "undo", outcome: "ok", detail: "IAM took the call." };
    server.set({
      "GET /responses/re-1": { body: response({ state: "undone", steps: [step] }) },
    });
    await vi.advanceTimersByTimeAsync(4_000);
    const shown = await screen.findByRole("list", { name: /Steps of this response/ });
    expect(shown.textContent).toContain("just now");
    expect(shown.textContent).not.toContain("in a moment");
  });
});
