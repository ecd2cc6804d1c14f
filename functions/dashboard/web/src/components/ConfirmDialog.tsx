// Asks before something that people will feel. The safe way out has the focus,
// Escape works, and the dialog stays open with the reason when it fails.

import { type FormEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";
import { ErrorBanner } from "./ErrorBanner";

interface Props {
  title: string;
  action: string;
  danger?: boolean;
  busy: boolean;
  error: unknown;
  /** Asks for a note that goes into the audit trail. */
  withNote?: boolean;
  noteLabel?: string;
  children: ReactNode;
  onConfirm: (note: string) => void;
  onCancel: () => void;
}

export function ConfirmDialog(props: Props) {
  const { title, action, danger = false, busy, error, withNote = false, onConfirm } = props;
  const { noteLabel = "Note for the audit trail" } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  const cancel = useRef<HTMLButtonElement>(null);
  const [note, setNote] = useState("");
  const id = useId();

  useEffect(() => {
    const element = dialog.current;
    element?.showModal();
    cancel.current?.focus();
    return () => element?.close();
  }, []);

  const submit = (event: FormEvent) => {
    event.preventDefault();
    onConfirm(note.trim());
  };

  return (
    <dialog
      ref={dialog}
      className="dialog"
      aria-labelledby={`${id}-title`}
      onCancel={(event) => {
        event.preventDefault();
        if (!busy) props.onCancel();
      }}
    >
      <form onSubmit={submit}>
        <h2 id={`${id}-title`}>{title}</h2>
        {props.children}
        {withNote && (
          <label className="field" htmlFor={`${id}-note`}>
            {noteLabel} (optional)
            <textarea
              id={`${id}-note`}
              rows={2}
              maxLength={1000}
              value={note}
              onChange={(event) => setNote(event.target.value)}
            />
          </label>
        )}
        <ErrorBanner error={error} />
        <div className="dialog-actions">
          <button
            ref={cancel}
            type="button"
            className="button"
            disabled={busy}
            onClick={props.onCancel}
          >
            Cancel
          </button>
          <button
            type="submit"
            className={`button ${danger ? "button-danger" : "button-primary"}`}
            disabled={busy}
          >
            {busy ? "Working…" : action}
          </button>
        </div>
      </form>
    </dialog>
  );
}
