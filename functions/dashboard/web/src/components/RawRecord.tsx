// A raw CloudTrail record, closed until somebody wants the evidence itself.

import { Copy } from "./Copy";

function field(record: unknown, name: string): string {
  if (typeof record !== "object" || record === null) return "";
  const value = (record as Record<string, unknown>)[name];
  return typeof value === "string" ? value : "";
}

/** What the record is about, in one line. */
export function recordLine(record: unknown): string {
  const parts = ["eventTime", "eventSource", "eventName", "sourceIPAddress", "errorCode"];
  return (
    parts
      .map((name) => field(record, name))
      .filter((part) => part !== "")
      .join(" · ") || "Record"
  );
}

export function RawRecord({ record, title }: { record: unknown; title?: string }) {
  const eventId = field(record, "eventID");
  return (
    <details className="raw">
      <summary>{title ?? recordLine(record)}</summary>
      {eventId !== "" && (
        <p>
          Event <Copy text={eventId} what="event id" />
        </p>
      )}
      <pre>{JSON.stringify(record, null, 2)}</pre>
    </details>
  );
}
