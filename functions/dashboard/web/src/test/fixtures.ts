// Realistic API objects for tests; each test overrides what it is about.

import type {
  Alert,
  AlertDetail,
  ContainmentResponse,
  Health,
  IncidentDetail,
  KillSwitch,
  Role,
  Stats,
  User,
} from "../api/types";

const ACCOUNT = "210987654321";
export const PRINCIPAL = `arn:aws:iam::${ACCOUNT}:user/ci-deploy`;

export const user = (role: Role = "admin"): User => ({
  username: "maria",
  role,
  must_change_password: false,
});

export const health = (over: Partial<Health> = {}): Health => ({
  status: "ok",
  version: "0.1.0",
  response_mode: "approve",
  simulated_account: false,
  kill_switch: false,
  queues: { detect: { ready: 3, in_flight: 1, dead: 0 } },
  ...over,
});

export const killSwitch = (over: Partial<KillSwitch> = {}): KillSwitch => ({
  on: false,
  by: null,
  at: null,
  reason: null,
  earlier: [],
  ...over,
});

export const stats = (over: Partial<Stats> = {}): Stats => ({
  alerts_by_level: { critical: 7, high: 2 },
  alerts_by_state: { new: 9 },
  incidents_open: 4,
  responses_by_state: { contained: 1 },
  top_principals: [{ principal: PRINCIPAL, alerts: 9 }],
  events_total: 18342,
  ...over,
});

export const alert = (over: Partial<Alert> = {}): Alert => ({
  alert_id: "al-1",
  time: "2026-01-02T03:04:05Z",
  rule: { id: "rule-1", title: "Trail stopped", level: "critical", author: "CloudSentinel" },
  title: "CloudTrail logging stopped",
  category: "defense-evasion",
  level: "critical",
  score: 0.94,
  principal: PRINCIPAL,
  account: ACCOUNT,
  region: "us-east-1",
  source_ip: "203.0.113.77",
  event_count: 1,
  at_least: false,
  event_ids: ["ev-1"],
  indicators: { addresses: ["203.0.113.77"], keys: ["AKIAIOSFODNN7EXAMPLE"], agents: [] },
  attack: { tactics: ["defense-evasion"], techniques: ["T1562.008"] },
  reasons: ["ci-deploy stopped the trail org-trail."],
  state: "new",
  verdict: null,
  incident_id: "in-1",
  version: 3,
  ...over,
});

export const alertDetail = (over: Partial<AlertDetail> = {}): AlertDetail => ({
  ...alert(),
  note: null,
  history: [],
  provenance: ["folder:day.json"],
  responses: [],
  events: [{ eventID: "ev-1", eventName: "StopLogging", eventSource: "cloudtrail.amazonaws.com" }],
  ...over,
});

export const response = (over: Partial<ContainmentResponse> = {}): ContainmentResponse => ({
  response_id: "re-1",
  kind: "deactivate_access_key",
  state: "awaiting_approval",
  mode: "approve",
  account: ACCOUNT,
  principal: PRINCIPAL,
  access_key_id: "AKIAIOSFODNN7EXAMPLE",
  alert_id: "al-1",
  incident_id: "in-1",
  playbook: "compromised-access-key",
  reasons: ["Approval is needed because the response mode is approve."],
  requested_at: "2026-01-02T03:05:00Z",
  expires_at: "2026-01-03T03:05:00Z",
  decided_by: null,
  snapshot: null,
  verification: null,
  undo_count: 0,
  steps: [],
  own_events: [],
  version: 1,
  ...over,
});

export const incidentDetail = (over: Partial<IncidentDetail> = {}): IncidentDetail => ({
  incident_id: "in-1",
  time_first: "2026-01-02T03:00:00Z",
  time_last: "2026-01-02T03:35:00Z",
  level: "critical",
  score: 0.94,
  title: "ci-deploy's key used by an intruder",
  principals: [PRINCIPAL],
  accounts: [ACCOUNT],
  source_ips: ["203.0.113.77"],
  alert_ids: ["al-1"],
  alert_count: 1,
  event_count: 1,
  attack: { tactics: ["persistence"], techniques: ["T1098.001"] },
  summary: ["The key of ci-deploy was used from an address never seen with it."],
  alerts: [alert()],
  responses: [],
  ...over,
});

export const page = <T>(items: T[], next_cursor: string | null = null) => ({
  body: { items, next_cursor },
});
