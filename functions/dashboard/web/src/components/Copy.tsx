// An identifier that somebody will want to paste elsewhere (a key, an id).

import { useState } from "react";

export function Copy({ text, what }: { text: string; what: string }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      // Clipboards need a secure context; the text can still be selected.
      setSaid("Select and copy by hand");
    }
  };
  return (
    <span className="copy">
      <code>{text}</code>
      <button type="button" className="link" onClick={() => void copy()}>
        Copy<span className="visually-hidden"> {what}</span>
      </button>
      <span className="muted" aria-live="polite">
        {said}
      </span>
    </span>
  );
}
