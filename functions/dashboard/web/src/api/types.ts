// The shapes that the REST API sends, as the dashboard server documents them.
// Only types live here, so that pages and tests agree on one description.

export type Level = "informational" | "low" | "medium" | "high" | "critical";
export type Role = "viewer" | "analyst" | "admin";
export type AlertState = "new" | "acknowledged" | "closed";
export type Verdict = "true_positive" | "false_positive";
export type ResponseKind = "deactivate_access_key" | "revoke_sessions";
export type ResponseState =
  | "observed"
  | "awaiting_approval"
  | "approved"
  | "acting"
  | "verifying"
  | "contained"
  | "failed"
  | "refused"
  | "denied"
  | "expired"
  | "undoing"
  | "undone"
  | "undo_blocked"
  | "recorded";

export interface User {
  username: string;
  role: Role;
  must_change_password: boolean;
}

export interface LoginAnswer {
  token: string;
  expires_at: string;
  user: User;
}

/** One page of a list; `next_cursor` is null on the last one. */
export interface Page<T> {
  items: T[];
  next_cursor: string | null;
  /** A sentence that says what this search can't find; absent when it finds everything. */
  limited?: string;
}

export interface Attack {
  /** Short names such as `credential-access`. */
  tactics: string[];
  /** Ids such as `T1552.005`. */
  techniques: string[];
}

export interface Alert {
  alert_id: string;
  time: string;
  rule: { id: string; title: string | null; level: string | null; author: string | null };
  title: string;
  category: string | null;
  level: Level;
  score: number;
  principal: string | null;
  account: string | null;
  region: string | null;
  source_ip: string | null;
  event_count: number;
  /** True when more events matched than the alert remembers. */
  at_least: boolean;
  event_ids: string[];
  indicators: { addresses: string[]; keys: string[]; agents: string[] };
  attack: Attack;
  reasons: string[];
  /** Later events showed it to be none: the alert that has its events now, or empty. */
  superseded_by: string | null;
  state: AlertState;
  verdict: Verdict | null;
  incident_id: string | null;
  version: number;
}

export interface AlertDetail extends Alert {
  note: string | null;
  history: { at: string; by: string; change: unknown }[];
  provenance: unknown[];
  responses: ContainmentResponse[];
  /** Raw CloudTrail records, untouched. */
  events: unknown[];
  /** Why there may be no records to show. */
  limited?: string;
}

export interface AlertPatch {
  state?: AlertState;
  verdict?: Verdict | null;
  note?: string;
  version: number;
}

export interface Incident {
  incident_id: string;
  time_first: string;
  time_last: string;
  level: Level;
  score: number;
  title: string;
  principals: string[];
  accounts: string[];
  source_ips: string[];
  alert_ids: string[];
  alert_count: number;
  event_count: number;
  attack: Attack;
  summary: string[];
}

export interface IncidentDetail extends Incident {
  alerts: Alert[];
  responses: ContainmentResponse[];
}

/** A containment action; not named `Response`, which is the fetch API's class. */
export interface ContainmentResponse {
  response_id: string;
  kind: ResponseKind;
  state: ResponseState;
  mode: string;
  account: string;
  principal: string | null;
  access_key_id: string | null;
  alert_id: string | null;
  incident_id: string | null;
  playbook: string | null;
  reasons: string[];
  requested_at: string;
  expires_at: string | null;
  decided_by: string | null;
  snapshot: unknown;
  verification: unknown;
  undo_count: number;
  steps: { at: string; step: string; outcome: string; detail: unknown }[];
  own_events: string[];
  version: number;
}

export interface Stats {
  alerts_by_level: Partial<Record<Level, number>>;
  alerts_by_state: Partial<Record<AlertState, number>>;
  incidents_open: number;
  responses_by_state: Partial<Record<ResponseState, number>>;
  top_principals: { principal: string; alerts: number }[];
  /** Null where there is no index of events. */
  events_total: number | null;
  /** There are more alerts than were counted: the counts are of the newest. */
  truncated?: boolean;
}

export interface FoundEvent {
  event_id: string;
  time: string;
  account: string | null;
  region: string | null;
  action: string;
  principal: string | null;
  source_ip: string | null;
  raw: unknown;
}

export interface Health {
  status: string;
  version: string;
  response_mode: "observe" | "approve" | "automatic";
  simulated_account: boolean;
  kill_switch: boolean;
  queues: Record<string, { ready: number; in_flight: number; dead: number }>;
}

/** How the kill switch was set once. */
export interface KillSwitchSetting {
  on: boolean;
  /** Null, as `at` is, while nobody has ever set it. */
  by: string | null;
  at: string | null;
  reason: string | null;
}

export interface KillSwitch extends KillSwitchSetting {
  /** Newest first. */
  earlier: KillSwitchSetting[];
}

export type BacktestState = "queued" | "running" | "done" | "failed" | "cancelled";

export interface BacktestRequest {
  rules: { name: string; text: string }[];
  baseline: "in_force" | "shipped";
  on_top: boolean;
  from: string;
  to: string;
}

/** Rules tried on the archive. */
export interface Backtest {
  id: string;
  state: BacktestState;
  from: string;
  to: string;
  accounts: string[];
  baseline: "in_force" | "shipped";
  on_top: boolean;
  /** Names of the texts of the rules. */
  files: string[];
  requested_by: string;
  requested_at: string;
  started_at: string | null;
  finished_at: string | null;
  progress: { days_done: number; days_total: number; events: number };
  attempts: number;
  error: string | null;
}

export interface BacktestDetail extends Backtest {
  /** Null until it is done. */
  result: BacktestReport | null;
}

export interface BacktestReport {
  events: number;
  days: number;
  first_event: string | null;
  last_event: string | null;
  baseline: BacktestSide;
  candidate: BacktestSide;
  gained: number;
  lost: number;
  level_changed: number;
  gained_by_level: Partial<Record<Level, number>>;
  lost_by_level: Partial<Record<Level, number>>;
  rules: RuleDifference[];
  rules_unchanged: number;
  rules_omitted: number;
  principals: Affected[];
  unreadable: string[];
}

export interface BacktestSide {
  rules: number;
  correlations: number;
  refused: { file: string; line: number; field: string | null; reason: string }[];
  refused_count: number;
  warnings: string[];
  alerts: number;
  alerts_per_day: number;
  by_level: Partial<Record<Level, number>>;
}

export interface RuleDifference {
  id: string;
  title: string;
  kind: "rule" | "correlation";
  level: Level;
  /** Its level in the baseline, where that is another one. */
  baseline_level: Level | null;
  file: string;
  change: "new" | "gone" | "changed" | "same";
  baseline_alerts: number;
  alerts: number;
  baseline_alerts_per_day: number;
  alerts_per_day: number;
  gained: number;
  lost: number;
  /** Alerts that both raise, at different levels. */
  level_changed: number;
  gained_samples: AlertSample[];
  lost_samples: AlertSample[];
  principals: Affected[];
}

export interface AlertSample {
  time: string;
  alert_id: string;
  level: Level;
  principal: string;
  account: string;
  source_ip: string | null;
  event_count: number;
  event_ids: string[];
}

export interface Affected {
  principal: string;
  account: string;
  gained: number;
  lost: number;
}

export interface Account {
  username: string;
  role: Role;
  created_at: string;
  disabled: boolean;
  /** ARNs that belong to this person, who may not decide on their own keys. */
  principals: string[];
}

export interface ApiToken {
  id: string;
  name: string;
  scopes: string[];
  created_at?: string;
  expires_at?: string | null;
}

export interface CreatedToken extends ApiToken {
  /** The secret itself; the server shows it this one time. */
  token: string;
}
