// The only place that calls fetch: adds the token, turns every failure into an
// ApiError (RFC 9457 problem documents included) and tells the session when
// the server no longer accepts it.

import { getToken } from "./token";

const BASE = "/api/v1";
const PASSWORD_CHANGE = "password-change-required";

interface Problem {
  type?: unknown;
  title?: unknown;
  detail?: unknown;
}

/** A failed call. `status` is 0 when no answer came at all. */
export class ApiError extends Error {
  readonly status: number;
  readonly type: string;
  readonly title: string;
  readonly detail: string;
  /** Seconds to wait before another try, when the server said so. */
  readonly retryAfter: number | null;

  constructor(status: number, title: string, detail = "", type = "about:blank", retry?: number) {
    super(detail || title);
    this.name = "ApiError";
    this.status = status;
    this.type = type;
    this.title = title;
    this.detail = detail;
    this.retryAfter = retry ?? null;
  }

  get passwordChangeRequired(): boolean {
    return this.status === 403 && this.type.endsWith(PASSWORD_CHANGE);
  }
}

export interface SessionEvents {
  /** A call with a token was answered 401: sign in again. */
  expired: () => void;
  /** A call was refused until the password is changed. */
  passwordChangeRequired: () => void;
}

let events: SessionEvents | null = null;

/** Registers who is told about the session's end; returns how to undo it. */
export function onSessionEvents(listener: SessionEvents): () => void {
  events = listener;
  return () => {
    if (events === listener) events = null;
  };
}

export type Query = Record<string, string | number | null | undefined>;

export interface RequestOptions {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  query?: Query;
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** False for calls where 401 means wrong credentials, not an ended session. */
  session?: boolean;
}

/** Empty values are left out, so that an unset filter isn't sent. */
export function queryString(query: Query = {}): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") params.set(key, String(value));
  }
  const text = params.toString();
  return text === "" ? "" : `?${text}`;
}

export async function request<T>(path: string, options: RequestOptions = {}): Promise<T> {
  const { method = "GET", query, body, signal, session = true } = options;
  const headers: Record<string, string> = { Accept: "application/json" };
  const token = getToken();
  if (token !== null && session) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";

  const answer = await send(`${BASE}${path}${queryString(query)}`, {
    method,
    headers,
    cache: "no-store",
    credentials: "omit",
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...(signal ? { signal } : {}),
  });

  if (!answer.ok) {
    const error = await toError(answer);
    // A late answer to an older token must not end the session of a newer one.
    if (session && getToken() === token) announce(error);
    throw error;
  }
  if (answer.status === 204) return undefined as T;
  const text = await answer.text();
  if (text === "") return undefined as T;
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new ApiError(answer.status, "Unreadable answer", "The server's answer is not JSON.");
  }
}

async function send(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (cause) {
    if (isAbort(cause)) throw cause;
    throw new ApiError(
      0,
      "No connection",
      "The CloudSentinel server could not be reached. It may be stopped, or the network is down.",
    );
  }
}

async function toError(answer: Response): Promise<ApiError> {
  const fallback = answer.statusText || `HTTP status ${answer.status}`;
  const wait = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  const retry = Number.isFinite(wait) ? wait : undefined;
  let problem: Problem = {};
  try {
    problem = ((await answer.json()) as Problem | null) ?? {};
  } catch {
    // A proxy's HTML page or an empty body: the status is all there is to say.
  }
  const text = (value: unknown, otherwise: string) =>
    typeof value === "string" && value !== "" ? value : otherwise;
  return new ApiError(
    answer.status,
    text(problem.title, fallback),
    text(problem.detail, ""),
    text(problem.type, "about:blank"),
    retry,
  );
}

function announce(error: ApiError): void {
  if (error.status === 401) events?.expired();
  else if (error.passwordChangeRequired) events?.passwordChangeRequired();
}

export function isAbort(cause: unknown): boolean {
  return cause instanceof Error && cause.name === "AbortError";
}
