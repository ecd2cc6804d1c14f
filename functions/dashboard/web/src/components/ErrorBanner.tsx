// Tells what went wrong in the server's own words, aloud for screen readers,
// with a way to try again.

import { ApiError } from "../api/client";

/** What to tell a person: the server's explanation, as a sentence. */
export function messageOf(error: unknown): string {
  if (!(error instanceof ApiError)) return error instanceof Error ? error.message : String(error);
  const text = error.detail === "" ? error.title : error.detail;
  const sentence = `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
  if (error.retryAfter === null || /try again/i.test(text)) return sentence;
  return `${sentence} Try again in ${waitText(error.retryAfter)}.`;
}

function waitText(seconds: number): string {
  return seconds < 90 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`;
}

interface Props {
  error: unknown;
  onRetry?: () => void;
  /** What is still on screen is older than the failure. */
  stale?: boolean;
}

export function ErrorBanner({ error, onRetry, stale = false }: Props) {
  if (error === undefined || error === null) return null;
  return (
    <div className="notice notice-bad" role="alert">
      <p>
        {messageOf(error)}
        {stale && " What you see is from before."}
      </p>
      {onRetry !== undefined && (
        <button type="button" className="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}
