import { describe, expect, it } from "vitest";
import { ApiError } from "../api/client";
import { messageOf } from "../components/ErrorBanner";
import { response } from "../test/fixtures";
import { tactic, technique } from "./attack";
import { absolute, asText, principalKind, principalName, readable, relative, span } from "./format";
import { gist } from "./gist";
import { provenanceText } from "./provenance";
import {
  allowedDecisions,
  headline,
  meaning,
  outcome,
  RESPONSE_STATES,
  wording,
} from "./responses";
import { href, parseHash } from "./router";

describe("times", () => {
  const now = Date.parse("2026-01-02T12:00:00Z");
  it.each([
    ["2026-01-02T11:59:30Z", "just now"],
    ["2026-01-02T11:57:01Z", "2 min ago"],
    ["2026-01-02T10:00:00Z", "2 h ago"],
    ["2025-12-30T12:00:00Z", "3 d ago"],
    ["2026-01-03T12:00:00Z", "in 1 d"],
    ["nonsense", ""],
  ])("%s is %s", (time, expected) => {
    expect(relative(time, now)).toBe(expected);
  });

  it("shows UTC whatever the offset, and leaves what is no time alone", () => {
    expect(absolute("2026-01-02T13:00:00+01:00")).toBe("2026-01-02 12:00:00 UTC");
    expect(absolute("nonsense")).toBe("nonsense");
  });

  it.each([
    ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "a single moment"],
    ["2026-01-01T00:00:00Z", "2026-01-01T02:05:00Z", "2 h 5 min"],
    ["2026-01-01T00:00:00Z", "2026-01-03T01:00:00Z", "2 d 1 h"],
  ])("from %s to %s lasted %s", (from, to, expected) => {
    expect(span(from, to)).toBe(expected);
  });
});

describe("principals", () => {
  it.each([
    ["arn:aws:iam::123456789012:user/ops/alice", "alice", "IAM user"],
    ["arn:aws:sts::123456789012:assumed-role/Admin/alice", "Admin / alice", "role session"],
    ["arn:aws:iam::123456789012:root", "root user", ""],
    ["cloudtrail.amazonaws.com", "cloudtrail.amazonaws.com", ""],
    ["account:123456789012", "account:123456789012", ""],
    [null, "unknown", ""],
  ])("%s is called %s", (arn, name, kind) => {
    expect(principalName(arn)).toBe(name);
    expect(principalKind(arn)).toBe(kind);
  });
});

describe("ATT&CK links", () => {
  it("links sub-techniques and tactics to their own pages", () => {
    expect(technique("T1552.005").url).toBe("https://attack.mitre.org/techniques/T1552/005/");
    expect(technique("T1078").url).toBe("https://attack.mitre.org/techniques/T1078/");
    expect(tactic("credential-access")).toEqual({
      text: "Credential Access",
      url: "https://attack.mitre.org/tactics/TA0006/",
    });
  });

  it("shows what it doesn't know without a link", () => {
    expect(technique("javascript:alert(1)").url).toBeNull();
    expect(tactic("brand-new-tactic")).toEqual({ text: "Brand new tactic", url: null });
  });
});

describe("router", () => {
  it("round-trips ids and filters with special characters", () => {
    const route = parseHash(href(["alerts", "a/b?c#d"], { q: "x&y=z", level: "" }));
    expect(route.path).toEqual(["alerts", "a/b?c#d"]);
    expect([...route.query]).toEqual([["q", "x&y=z"]]);
  });

  it("takes a broken escape literally", () => {
    expect(parseHash("#/alerts/100%").path).toEqual(["alerts", "100%"]);
  });
});

describe("responses", () => {
  it("lets only administrators decide, and only where the state allows it", () => {
    for (const state of RESPONSE_STATES) {
      expect(allowedDecisions(state, "viewer")).toEqual([]);
      expect(allowedDecisions(state, "analyst")).toEqual([]);
      const expected = { awaiting_approval: ["approve", "deny"], contained: ["undo"] }[
        state as string
      ];
      expect(allowedDecisions(state, "admin")).toEqual(expected ?? []);
    }
  });

  it("never claims that a temporary key was deactivated", () => {
    const temporary = response({
      kind: "revoke_sessions",
      state: "recorded",
      access_key_id: "ASIAX",
    });
    expect(headline(temporary)).toBe("Revoke the sessions of ci-deploy (key ASIAX)");
    expect(meaning("recorded").sentence).toContain("Nothing was changed");
    expect(wording("approve", temporary).question).toContain("sessions behind key ASIAX");
  });

  it("speaks of a contained key in the past tense", () => {
    expect(headline(response({ state: "contained" }))).toMatch(/^Deactivated access key AKIA/);
    expect(headline(response())).toMatch(/^Deactivate access key AKIA/);
  });
});

describe("asText", () => {
  it("reads nested JSON as a line", () => {
    expect(asText({ new_status: "Inactive", last_used: { region: "us-east-1" }, gone: null })).toBe(
      "New status: Inactive · Last used: Region: us-east-1",
    );
  });
});

describe("provenance", () => {
  it.each([
    [
      { channel: "bus", bus: "default", account: "1", received_at: "x" },
      "Event bus default of account 1",
    ],
    [
      { channel: "object", bucket: "b", key: "k.gz", only_cloudtrail_writes: true },
      "s3://b/k.gz (only CloudTrail writes there)",
    ],
    [{ channel: "object", bucket: "b", key: "k.gz", only_cloudtrail_writes: false }, "s3://b/k.gz"],
    [{ channel: "folder", path: "day.json", received_at: "x" }, "File day.json"],
    [{ channel: "pigeon", name: "Pia", received_at: "x" }, "Channel: pigeon · Name: Pia"],
    ["plain", "plain"],
  ])("%j reads %s", (provenance, expected) => {
    expect(provenanceText(provenance)).toBe(expected);
  });
});

describe("error messages", () => {
  it.each([
    [new ApiError(401, "Not logged in", "name or password is wrong"), "Name or password is wrong."],
    [new ApiError(502, "Bad Gateway"), "Bad Gateway."],
    [new ApiError(429, "Too many", "locked", "", 30), "Locked. Try again in 30 s."],
    [
      new ApiError(429, "Too many", "too many logins: try again in 30 seconds", "", 30),
      "Too many logins: try again in 30 seconds.",
    ],
    [new Error("The passwords differ."), "The passwords differ."],
  ])("%s", (error, expected) => {
    expect(messageOf(error)).toBe(expected);
  });
});

describe("sentences for people", () => {
  it("puts what IAM said into words and leaves other braces alone", () => {
    const said = 'Read back: {"status":"Inactive","user_arn":"arn:aws:iam::1:user/a"}. Done.';
    expect(readable(said)).toBe(
      "Read back: Status: Inactive · User ARN: arn:aws:iam::1:user/a. Done.",
    );
    expect(readable('Note: {"half and {x}')).toBe('Note: {"half and {x}');
  });

  it("tells what happened before what the rule is for", () => {
    const about = 'Rule "Trail stopped": Whoever stops a trail works unseen.';
    expect(gist({ reasons: [about, "alice called cloudtrail:StopLogging."] })).toBe(
      "alice called cloudtrail:StopLogging.",
    );
    expect(gist({ reasons: [about] })).toBe(about);
    expect(gist({ reasons: [] })).toBeNull();
  });

  it("says that a step was begun, not that it waits, once a call is made", () => {
    expect(outcome("waiting", "act").label).toBe("Begun");
    expect(outcome("waiting", "approve").label).toBe("Waiting");
    expect(outcome("brand_new", "act")).toEqual({ label: "Brand new", tone: "plain" });
  });

  it("names the API token that sent a record", () => {
    expect(provenanceText({ channel: "api", user: "token:shipper (t-1)" })).toBe(
      "Sent to the API by the API token shipper (t-1)",
    );
  });
});
