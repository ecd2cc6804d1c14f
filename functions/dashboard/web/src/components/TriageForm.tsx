// Sets an alert's state, verdict and note. What was on screen when editing
// began goes along as version: if somebody else changed the alert meanwhile,
// the server refuses, and this form keeps the text and offers to load theirs.

import { type FormEvent, useState } from "react";
import { ApiError } from "../api/client";
import { patchAlert } from "../api/endpoints";
import type { AlertDetail, AlertPatch, AlertState, Verdict } from "../api/types";
import { useAction } from "../hooks/useAction";
import { ErrorBanner } from "./ErrorBanner";
import { Select } from "./Fields";

interface Draft {
  state: AlertState;
  verdict: Verdict | null;
  note: string;
}

/** What is edited, beside what it was when editing began. */
interface Edit {
  base: AlertDetail;
  draft: Draft;
}

const STATES: [string, string][] = [
  ["new", "New"],
  ["acknowledged", "Acknowledged"],
  ["closed", "Closed"],
];
const VERDICTS: [string, string][] = [
  ["", "Undecided"],
  ["true_positive", "True positive"],
  ["false_positive", "False positive"],
];

function draftOf(alert: AlertDetail): Draft {
  return { state: alert.state, verdict: alert.verdict, note: alert.note ?? "" };
}

/** Only what differs, so that the history tells what was really changed. */
function patchOf({ base, draft }: Edit): AlertPatch {
  const before = draftOf(base);
  return {
    version: base.version,
    ...(draft.state === before.state ? {} : { state: draft.state }),
    ...(draft.verdict === before.verdict ? {} : { verdict: draft.verdict }),
    ...(draft.note === before.note ? {} : { note: draft.note }),
  };
}

interface Props {
  alert: AlertDetail;
  onSaved: (alert: AlertDetail) => void;
  onReload: () => void;
}

export function TriageForm({ alert, onSaved, onReload }: Props) {
  // Null while nothing is edited: then the form follows what polling brings.
  const [editing, setEditing] = useState<Edit | null>(null);
  const [saved, setSaved] = useState(false);
  const action = useAction();
  const shown = editing?.draft ?? draftOf(alert);
  const conflict = action.error instanceof ApiError && action.error.status === 409;

  const edit = (change: Partial<Draft>) => {
    setSaved(false);
    setEditing({ base: editing?.base ?? alert, draft: { ...shown, ...change } });
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (editing === null) return;
    void action.run(async () => {
      onSaved(await patchAlert(alert.alert_id, patchOf(editing)));
      setEditing(null);
      setSaved(true);
    });
  };
  const reload = () => {
    action.clear();
    setEditing(null);
    onReload();
  };

  return (
    <form className="triage" onSubmit={submit}>
      <Select
        label="State"
        value={shown.state}
        options={STATES}
        onChange={(value) => edit({ state: value as AlertState })}
      />
      <Select
        label="Verdict"
        value={shown.verdict ?? ""}
        options={VERDICTS}
        onChange={(value) => edit({ verdict: value === "" ? null : (value as Verdict) })}
      />
      <label className="field field-wide">
        Note
        <textarea
          rows={2}
          maxLength={4000}
          value={shown.note}
          onChange={(event) => edit({ note: event.target.value })}
        />
      </label>
      <div className="actions">
        <button
          type="submit"
          className="button button-primary"
          disabled={action.busy || editing === null}
        >
          {action.busy ? "Saving…" : "Save"}
        </button>
        {editing !== null && (
          <button type="button" className="button" disabled={action.busy} onClick={reload}>
            Discard
          </button>
        )}
        <span className="muted" role="status">
          {saved && "Saved."}
        </span>
      </div>
      {conflict ? (
        <div className="notice notice-warn" role="alert">
          <p>
            Somebody changed this alert since you opened it, so nothing was saved. Load the newest
            version, then decide again.
            {shown.note !== (alert.note ?? "") && " Copy your note first if you want to keep it."}
          </p>
          <button type="button" className="button" onClick={reload}>
            Load newest version
          </button>
        </div>
      ) : (
        <ErrorBanner error={action.error} />
      )}
    </form>
  );
}
