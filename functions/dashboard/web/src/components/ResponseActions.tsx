// Approve, deny and undo: shown only to administrators and only where the
// state allows it, and never without a confirmation that says what will happen.

import { useState } from "react";
import { ApiError } from "../api/client";
import { type Decision, decide } from "../api/endpoints";
import type { ContainmentResponse } from "../api/types";
import { useAction } from "../hooks/useAction";
import { label } from "../lib/format";
import { allowedDecisions, wording } from "../lib/responses";
import { useSession, useUser } from "../session";
import { ConfirmDialog } from "./ConfirmDialog";
import { Facts } from "./Facts";
import { Principal } from "./Principal";

interface Props {
  response: ContainmentResponse;
  onDecided: (response: ContainmentResponse) => void;
  /** Called when somebody else was faster, to show the present state. */
  onConflict: () => void;
}

export function ResponseActions({ response, onDecided, onConflict }: Props) {
  const user = useUser();
  const { health } = useSession();
  const action = useAction();
  const [asked, setAsked] = useState<Decision | null>(null);
  const decisions = allowedDecisions(response.state, user.role);

  const close = () => {
    setAsked(null);
    action.clear();
  };
  const confirm = async (decision: Decision, note: string) => {
    const done = await action.run(async () => {
      try {
        onDecided(await decide(response.response_id, decision, note));
      } catch (error) {
        if (error instanceof ApiError && error.status === 409) onConflict();
        throw error;
      }
    });
    if (!done) return;
    close();
    // The button that asked goes away with the decision: the keyboard goes on from the page.
    document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true });
  };

  if (decisions.length === 0 && asked === null) return null;
  const words = asked === null ? null : wording(asked, response);
  return (
    <div className="actions">
      {decisions.map((decision) => (
        <button
          key={decision}
          type="button"
          className={`button ${decision === "approve" ? "button-primary" : ""}`}
          onClick={() => setAsked(decision)}
        >
          {label(decision)}
          <span className="visually-hidden"> for key {response.access_key_id}</span>
        </button>
      ))}
      {asked !== null && words !== null && (
        <ConfirmDialog
          title={words.question}
          action={words.action}
          danger={asked !== "deny"}
          busy={action.busy}
          error={action.error}
          withNote
          onCancel={close}
          onConfirm={(note) => void confirm(asked, note)}
        >
          <Facts
            facts={[
              ["Access key", <code key="key">{response.access_key_id}</code>],
              ["Principal", <Principal key="principal" arn={response.principal} full />],
              [
                "AWS account",
                health?.simulated_account === true
                  ? `${response.account} (simulated)`
                  : response.account,
              ],
            ]}
          />
          <p className="effect">{words.effect}</p>
        </ConfirmDialog>
      )}
    </div>
  );
}
