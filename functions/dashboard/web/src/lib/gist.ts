// The one sentence of an alert that a list or timeline has room for.

import type { Alert } from "../api/types";

/**
 * What happened, rather than what the rule is for in general: the first reason
 * that isn't the rule's own description. Null without any.
 */
export function gist(alert: Pick<Alert, "reasons">): string | null {
  const told = alert.reasons.find((reason) => !reason.startsWith('Rule "'));
  return told ?? alert.reasons[0] ?? null;
}
