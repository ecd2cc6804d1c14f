import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { OVERVIEW, visit } from "../test/app";
import { health, killSwitch, page } from "../test/fixtures";
import { problem } from "../test/server";

const SET = "PUT /kill-switch";
const ON = killSwitch({
  on: true,
  by: "maria",
  at: "2026-01-02T03:04:05Z",
  reason: "Wrong key contained.",
});
const tile = async () => within(await screen.findByRole("region", { name: "Response mode" }));

describe("the kill switch", () => {
  it("is turned on by an administrator after a confirmation, with a reason", async () => {
    const { server, person } = visit("", { ...OVERVIEW, [SET]: { body: ON } });
    await person.click(await screen.findByRole("button", { name: /^Stop all actions/ }));
    const dialog = within(screen.getByRole("dialog"));
    expect(dialog.getByText(/changes nothing in any account/)).toBeTruthy();
    expect(document.activeElement?.textContent).toBe("Cancel");
    expect(server.to(SET)).toHaveLength(0);
    expect(screen.queryByText("Kill switch is on:")).toBeNull();

    await person.type(dialog.getByLabelText(/^Reason/), " Wrong key contained. ");
    server.set({ "GET /health": { body: health({ kill_switch: true }) } });
    await person.click(dialog.getByRole("button", { name: "Turn on" }));
    await screen.findByText("Kill switch is on:");
    expect(server.to(SET).map((call) => call.body)).toEqual([
      { on: true, reason: "Wrong key contained." },
    ]);
    expect(screen.queryByRole("dialog")).toBeNull();
    expect((await tile()).getByText("Kill switch: on")).toBeTruthy();
    expect((await tile()).getByText(/Turned on by maria: Wrong key contained\./)).toBeTruthy();
  });

  it("is turned off again, and shows how it was set before", async () => {
    const { server, person } = visit("", {
      ...OVERVIEW,
      "GET /health": { body: health({ kill_switch: true }) },
      "GET /kill-switch": { body: ON },
      [SET]: {
        body: killSwitch({ by: "maria", at: "2026-01-02T04:00:00Z", earlier: [ON] }),
      },
    });
    await screen.findByText("Kill switch is on:");
    await person.click(await screen.findByRole("button", { name: /^Turn off/ }));
    server.set({ "GET /health": { body: health() } });
    const dialog = within(screen.getByRole("dialog"));
    expect(dialog.getByText(/does not start by itself/)).toBeTruthy();
    await person.click(dialog.getByRole("button", { name: "Turn off" }));
    await waitFor(() => expect(screen.queryByText("Kill switch is on:")).toBeNull());
    expect(server.to(SET)[0]?.body).toEqual({ on: false });
    expect((await tile()).getByText("Kill switch: off")).toBeTruthy();
    await person.click(screen.getByText("Earlier settings"));
    const earlier = screen.getByRole("list", { name: "Earlier settings of the kill switch" });
    expect(earlier.textContent).toContain("Turned on by maria: Wrong key contained.");
  });

  it("sets nothing when cancelled, and says why the server refused", async () => {
    const { server, person } = visit("", {
      ...OVERVIEW,
      [SET]: problem(403, "Forbidden", "This needs the role admin."),
    });
    await person.click(await screen.findByRole("button", { name: /^Stop all actions/ }));
    await person.click(screen.getByRole("button", { name: "Cancel" }));
    expect(screen.queryByRole("dialog")).toBeNull();
    expect(server.to(SET)).toHaveLength(0);

    await person.click(screen.getByRole("button", { name: /^Stop all actions/ }));
    await person.click(screen.getByRole("button", { name: "Turn on" }));
    expect((await screen.findByRole("alert")).textContent).toContain("This needs the role admin.");
    expect((await tile()).getByText("Kill switch: off")).toBeTruthy();
  });

  it.each(["viewer", "analyst"] as const)("is shown to a %s without a button", async (role) => {
    visit("", { ...OVERVIEW, "GET /kill-switch": { body: ON } }, role);
    await screen.findByText(/Turned on by maria/);
    expect(screen.queryByRole("button", { name: /kill switch/ })).toBeNull();
  });

  it("is in a banner on every page, which leads to who turned it on", async () => {
    const { person } = visit("#/alerts", {
      ...OVERVIEW,
      "GET /alerts": page([]),
      "GET /health": { body: health({ kill_switch: true }) },
      "GET /kill-switch": { body: ON },
    });
    await person.click(await screen.findByRole("link", { name: /Who turned it on/ }));
    await screen.findByText(/Turned on by maria/);
  });
});
