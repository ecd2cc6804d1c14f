// Realistic API objects for tests; each test overrides what it is about.

import type {
  Alert,
  AlertDetail,
  BacktestDetail,
  BacktestReport,
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
  superseded_by: null,
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

export const report = (over: Partial<BacktestReport> = {}): BacktestReport => {
  const levels = { critical: 0, high: 0, medium: 0, low: 0, informational: 0 };
  const side = { rules: 2, correlations: 0, refused: [], refused_count: 0, warnings: [] };
  const sample = {
    time: "2026-01-02T03:04:05Z",
    alert_id: "al-7",
    level: "high" as const,
    principal: PRINCIPAL,
    account: ACCOUNT,
    source_ip: "203.0.113.77",
    event_count: 3,
    event_ids: ["ev-1", "ev-2", "ev-3"],
  };
  const affected = { principal: PRINCIPAL, account: ACCOUNT, gained: 4, lost: 1 };
  return {
    events: 18342,
    days: 2,
    first_event: "2026-01-01T00:00:05Z",
    last_event: "2026-01-02T23:00:00Z",
    baseline: { ...side, alerts: 3, alerts_per_day: 1.5, by_level: { ...levels, medium: 3 } },
    candidate: { ...side, alerts: 6, alerts_per_day: 3, by_level: { ...levels, high: 6 } },
    gained: 4,
    lost: 1,
    level_changed: 2,
    gained_by_level: { ...levels, high: 4 },
    lost_by_level: { ...levels, medium: 1 },
    rules: [
      {
        id: "rule-1",
        title: "Trail stopped",
        kind: "rule",
        level: "high",
        baseline_level: "medium",
        file: "mine.yml",
        change: "changed",
        baseline_alerts: 3,
        alerts: 6,
        baseline_alerts_per_day: 1.5,
        alerts_per_day: 3,
        gained: 4,
        lost: 1,
        level_changed: 2,
        gained_samples: [sample],
        lost_samples: [],
        principals: [affected],
      },
    ],
    rules_unchanged: 70,
    rules_omitted: 0,
    principals: [affected],
    unreadable: [],
    ...over,
  };
};

export const backtest = (over: Partial<BacktestDetail> = {}): BacktestDetail => ({
  id: "bt-1",
  state: "done",
  from: "2026-01-01T00:00:00Z",
  to: "2026-01-02T23:59:59Z",
  accounts: [],
  baseline: "in_force",
  on_top: true,
  files: ["mine.yml"],
  requested_by: "maria",
  requested_at: "2026-01-03T08:00:00Z",
  started_at: "2026-01-03T08:00:01Z",
  finished_at: "2026-01-03T08:00:09Z",
  progress: { days_done: 2, days_total: 2, events: 18342 },
  attempts: 1,
  error: null,
  result: report(),
  ...over,
});

export const page = <T>(items: T[], next_cursor: string | null = null) => ({
  body: { items, next_cursor },
});
