import { screen, within } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { visit } from "../test/app";
import { alert, alertDetail, incidentDetail, page } from "../test/fixtures";

const WITHDRAWN = { alert_id: "al-2", title: "Many failed sign-ins", superseded_by: "" };

describe("an alert that later events showed to be none", () => {
  it("is struck out and marked in the list", async () => {
    visit("#/alerts", { "GET /alerts": page([alert(), alert(WITHDRAWN)]) });
    const link = await screen.findByRole("link", { name: "Many failed sign-ins" });
    expect(within(link).getByText("Many failed sign-ins").tagName).toBe("S");
    expect(screen.getAllByText("Superseded")).toHaveLength(1);
    const other = screen.getByRole("link", { name: "CloudTrail logging stopped" });
    expect(other.querySelector("s")).toBeNull();
  });

  it("stays in its incident's timeline, marked", async () => {
    const incident = incidentDetail({
      alert_ids: ["al-1", "al-2"],
      alerts: [alert(), alert(WITHDRAWN)],
    });
    visit("#/incidents/in-1", { "GET /incidents/in-1": { body: incident } });
    const link = await screen.findByRole("link", { name: "Many failed sign-ins" });
    expect(link.querySelector("s")).not.toBeNull();
    expect(screen.getAllByText("Superseded")).toHaveLength(1);
    expect(screen.queryByText(/alerts shown/)).toBeNull();
  });

  it("says so on its page, and where its events are now", async () => {
    const detail = alertDetail({ ...WITHDRAWN, superseded_by: "al-9" });
    const { server, person } = visit("#/alerts/al-2", {
      "GET /alerts/al-2": { body: detail },
      "GET /alerts/al-9": { body: alertDetail({ alert_id: "al-9", title: "The later one" }) },
    });
    await screen.findByText(/Later events showed this to be no alert/);
    await person.click(screen.getByRole("link", { name: "The alert with its events" }));
    await screen.findByRole("heading", { name: "The later one" });
    expect(screen.queryByText(/Later events/)).toBeNull();
    expect(server.to("GET /alerts/al-9").length).toBeGreaterThan(0);
  });
});
