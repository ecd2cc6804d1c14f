// What a containment response's state means in words, what may be decided in
// it, and what a decision will do: the one place that the list, the detail and
// the confirmation share, so that they never tell different stories.

import type { Decision } from "../api/endpoints";
import type { ContainmentResponse, ResponseState, Role } from "../api/types";
import { label, principalName } from "./format";

export type Tone = "good" | "warn" | "bad" | "busy" | "plain";

interface Meaning {
  label: string;
  tone: Tone;
  sentence: string;
}

const MEANINGS: Record<ResponseState, Meaning> = {
  observed: {
    label: "Observed only",
    tone: "plain",
    sentence: "Observe mode: this is what would have been done. Nothing was changed.",
  },
  awaiting_approval: {
    label: "Awaiting approval",
    tone: "warn",
    sentence: "Waiting for an administrator's decision. The key still works until then.",
  },
  approved: { label: "Approved", tone: "busy", sentence: "Approved; about to act." },
  acting: { label: "Acting", tone: "busy", sentence: "The key is being deactivated now." },
  verifying: {
    label: "Verifying",
    tone: "busy",
    sentence: "Deactivated; reading the key back to make sure.",
  },
  contained: { label: "Contained", tone: "good", sentence: "The key is inactive." },
  failed: {
    label: "Failed",
    tone: "bad",
    sentence: "The action failed. The key may still be active: look at the steps below.",
  },
  refused: {
    label: "Refused",
    tone: "plain",
    sentence: "CloudSentinel refused to act. Nothing was changed.",
  },
  denied: {
    label: "Denied",
    tone: "plain",
    sentence: "An administrator decided against it. Nothing was changed.",
  },
  expired: {
    label: "Expired",
    tone: "warn",
    sentence: "Nobody decided in time. Nothing was changed.",
  },
  undoing: { label: "Undoing", tone: "busy", sentence: "The key is being activated again." },
  undone: {
    label: "Undone",
    tone: "plain",
    sentence: "The key is active again. From now on it is only touched with approval.",
  },
  undo_blocked: {
    label: "Undo blocked",
    tone: "bad",
    sentence: "Undo was refused, because somebody changed the key since it was contained.",
  },
  recorded: {
    label: "Needs a person",
    tone: "warn",
    sentence: "Temporary key: a person must revoke the sessions behind it. Nothing was changed.",
  },
};

/** States as a filter offers them, the most urgent first. */
export const RESPONSE_STATES: ResponseState[] = [
  "awaiting_approval",
  "recorded",
  "failed",
  "undo_blocked",
  "contained",
  "approved",
  "acting",
  "verifying",
  "undoing",
  "undone",
  "observed",
  "refused",
  "denied",
  "expired",
];

export function meaning(state: ResponseState): Meaning {
  // A newer server may know more states than this page does.
  return MEANINGS[state] ?? { label: state, tone: "plain", sentence: "" };
}

/** `Deactivate access key AKIA... of alice`. */
export function headline(response: ContainmentResponse): string {
  const who = principalName(response.principal);
  const key = response.access_key_id ?? "(unknown key)";
  if (response.kind === "revoke_sessions") return `Revoke the sessions of ${who} (key ${key})`;
  const done = response.state === "contained" || response.state === "undo_blocked";
  return `${done ? "Deactivated" : "Deactivate"} access key ${key} of ${who}`;
}

const STEPS: Record<string, string> = {
  plan: "Decide what to do",
  approve: "Approval",
  snapshot: "Note the state before",
  act: "Act",
  verify: "Read back",
  undo: "Undo",
};

/** A step's name in the audit trail. */
export function stepName(step: string): string {
  return STEPS[step] ?? label(step);
}

const OUTCOMES: Record<string, { label: string; tone: Tone }> = {
  ok: { label: "Done", tone: "good" },
  waiting: { label: "Waiting", tone: "busy" },
  failed: { label: "Failed", tone: "bad" },
};

/** How a step of the audit trail ended; a call to AWS is noted before it is made, too. */
export function outcome(name: string, step: string): { label: string; tone: Tone } {
  if (name === "waiting" && (step === "act" || step === "undo")) {
    return { label: "Begun", tone: "plain" };
  }
  return OUTCOMES[name] ?? { label: label(name), tone: "plain" };
}

/** Who decided, for people: the product itself, or somebody's name. */
export function decider(name: string | null): string | null {
  return name === "automatic" ? "CloudSentinel, by its playbook" : name;
}

/** Decisions that this person may take now; the server checks again. */
export function allowedDecisions(state: ResponseState, role: Role): Decision[] {
  if (role !== "admin") return [];
  if (state === "awaiting_approval") return ["approve", "deny"];
  if (state === "contained") return ["undo"];
  return [];
}

interface Wording {
  action: string;
  question: string;
  effect: string;
}

/** Words of the confirmation: always names the key, the account and the effect. */
export function wording(decision: Decision, response: ContainmentResponse): Wording {
  const sessions = response.kind === "revoke_sessions";
  const what = sessions
    ? `the sessions behind key ${response.access_key_id ?? "(unknown)"}`
    : `access key ${response.access_key_id ?? "(unknown)"}`;
  switch (decision) {
    case "approve":
      return sessions
        ? {
            action: "Revoke sessions",
            question: `Revoke ${what}?`,
            effect: "Everything that uses these sessions stops working at once.",
          }
        : {
            action: "Deactivate key",
            question: `Deactivate ${what}?`,
            effect:
              "Every program that uses this key fails from now on, the intruder's and your own. " +
              "The key isn't deleted: you can undo this later.",
          };
    case "deny":
      return {
        action: "Deny",
        question: `Leave ${what} alone?`,
        effect: "Nothing is changed in AWS. Whoever holds the key can go on using it.",
      };
    case "undo":
      return {
        action: "Undo",
        question: `Undo the containment of ${what}?`,
        effect:
          "The key works again for everybody who holds its secret, an intruder too. " +
          "CloudSentinel won't deactivate it again without approval.",
      };
  }
}
