// One function per REST call, so that paths, methods and types are written
// down once and pages never build a URL.

import { type Query, request } from "./client";
import type {
  Account,
  Alert,
  AlertDetail,
  AlertPatch,
  ApiToken,
  Backtest,
  BacktestDetail,
  BacktestRequest,
  ContainmentResponse,
  CreatedToken,
  FoundEvent,
  Health,
  Incident,
  IncidentDetail,
  KillSwitch,
  LoginAnswer,
  Page,
  Role,
  Stats,
  User,
} from "./types";

const id = encodeURIComponent;
type Signal = AbortSignal | undefined;

export const login = (username: string, password: string) =>
  request<LoginAnswer>("/auth/login", {
    method: "POST",
    body: { username, password },
    session: false,
  });

export const changePassword = (current_password: string, new_password: string) =>
  request<LoginAnswer>("/auth/password", {
    method: "POST",
    body: { current_password, new_password },
  });

export const getMe = (signal?: Signal) => request<User>("/auth/me", { signal });

export const getHealth = (signal?: Signal) =>
  request<Health>("/health", { signal, session: false });

export const getStats = (signal?: Signal) => request<Stats>("/stats", { signal });

export const listAlerts = (query: Query, signal?: Signal) =>
  request<Page<Alert>>("/alerts", { query, signal });

export const getAlert = (alertId: string, signal?: Signal) =>
  request<AlertDetail>(`/alerts/${id(alertId)}`, { signal });

export const patchAlert = (alertId: string, body: AlertPatch) =>
  request<AlertDetail>(`/alerts/${id(alertId)}`, { method: "PATCH", body });

export const listIncidents = (query: Query, signal?: Signal) =>
  request<Page<Incident>>("/incidents", { query, signal });

export const getIncident = (incidentId: string, signal?: Signal) =>
  request<IncidentDetail>(`/incidents/${id(incidentId)}`, { signal });

export const listResponses = (query: Query, signal?: Signal) =>
  request<Page<ContainmentResponse>>("/responses", { query, signal });

export const getResponse = (responseId: string, signal?: Signal) =>
  request<ContainmentResponse>(`/responses/${id(responseId)}`, { signal });

export type Decision = "approve" | "deny" | "undo";

export const decide = (responseId: string, decision: Decision, note: string) =>
  request<ContainmentResponse>(`/responses/${id(responseId)}/${decision}`, {
    method: "POST",
    body: note === "" ? {} : { note },
  });

export const getKillSwitch = (signal?: Signal) => request<KillSwitch>("/kill-switch", { signal });

export const setKillSwitch = (on: boolean, reason: string) =>
  request<KillSwitch>("/kill-switch", {
    method: "PUT",
    body: reason === "" ? { on } : { on, reason },
  });

export const searchEvents = (query: Query, signal?: Signal) =>
  request<Page<FoundEvent>>("/events", { query, signal });

export const listBacktests = (query: Query, signal?: Signal) =>
  request<Page<Backtest>>("/backtests", { query, signal });

export const getBacktest = (backtestId: string, signal?: Signal) =>
  request<BacktestDetail>(`/backtests/${id(backtestId)}`, { signal });

export const createBacktest = (body: BacktestRequest) =>
  request<Backtest>("/backtests", { method: "POST", body });

export const cancelBacktest = (backtestId: string) =>
  request<Backtest>(`/backtests/${id(backtestId)}/cancel`, { method: "POST" });

export const listUsers = (signal?: Signal) => request<{ items: Account[] }>("/users", { signal });

export const createUser = (body: {
  username: string;
  role: Role;
  password: string;
  principals: string[];
}) => request<unknown>("/users", { method: "POST", body });

export const patchUser = (
  username: string,
  body: { role?: Role; disabled?: boolean; principals?: string[] },
) => request<unknown>(`/users/${id(username)}`, { method: "PATCH", body });

export const listTokens = (signal?: Signal) =>
  request<{ items: ApiToken[] }>("/tokens", { signal });

export const createToken = (body: { name: string; scopes: string[]; expires_in_days: number }) =>
  request<CreatedToken>("/tokens", { method: "POST", body });

export const deleteToken = (tokenId: string) =>
  request<unknown>(`/tokens/${id(tokenId)}`, { method: "DELETE" });
