// Turns API values into words for people: times, names of principals, labels.
// Everything is UTC, because CloudTrail is and an incident crosses time zones.

const UNITS: [limit: number, seconds: number, name: string][] = [
  [3600, 60, "min"],
  [86_400, 3600, "h"],
  [Number.POSITIVE_INFINITY, 86_400, "d"],
];

/** `2026-11-22 08:26:45 UTC`, or the text itself when it is no time. */
export function absolute(time: string): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return time;
  return `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** `3 min ago`, `in 2 h`; empty when the text is no time. */
export function relative(time: string, now: number): string {
  const at = new Date(time).getTime();
  if (Number.isNaN(at)) return "";
  const seconds = Math.abs(now - at) / 1000;
  if (seconds < 60) return at > now ? "in a moment" : "just now";
  const [, size, name] = UNITS.find(([limit]) => seconds < limit) ?? [0, 86_400, "d"];
  const amount = `${Math.floor(seconds / size)} ${name}`;
  return at > now ? `in ${amount}` : `${amount} ago`;
}

/** `2 h 5 min` between two times: how long an incident lasted. */
export function span(from: string, to: string): string {
  const seconds = (new Date(to).getTime() - new Date(from).getTime()) / 1000;
  if (!Number.isFinite(seconds) || seconds < 1) return "a single moment";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The part of a principal that a person says aloud; the ARN stays beside it. */
export function principalName(principal: string | null): string {
  if (principal === null || principal === "") return "unknown";
  const resource = principal.startsWith("arn:") ? principal.split(":").slice(5).join(":") : "";
  if (resource === "") return principal;
  const parts = resource.split("/");
  if (parts.length === 1) return resource === "root" ? "root user" : resource;
  if (parts[0] === "assumed-role") return parts.slice(1).join(" / ");
  return parts[parts.length - 1] ?? resource;
}

/** What kind of identity an ARN names; empty for anything else. */
export function principalKind(principal: string | null): string {
  if (principal === null || !principal.startsWith("arn:")) return "";
  const resource = principal.split(":").slice(5).join(":");
  if (resource.startsWith("user/")) return "IAM user";
  if (resource.startsWith("assumed-role/")) return "role session";
  if (resource.startsWith("federated-user/")) return "federated user";
  if (resource.startsWith("role/")) return "role";
  return "";
}

/** `awaiting_approval` -> `Awaiting approval`, `user_arn` -> `User ARN`. */
export function label(text: string): string {
  return capital(
    text
      .replace(/[_-]+/g, " ")
      .replace(/\barn\b/gi, "ARN")
      .trim(),
  );
}

/** With a capital first letter, as a title begins. */
export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Objects that a sentence quotes as JSON (what IAM said of a key) in words; all else stays. */
export function readable(text: string): string {
  return text.replace(/\{"[^{}]*\}/g, (json) => {
    try {
      return asText(JSON.parse(json));
    } catch {
      return json;
    }
  });
}

export function count(amount: number, one: string, many = `${one}s`): string {
  return `${amount.toLocaleString("en-GB")} ${amount === 1 ? one : many}`;
}

/** Any JSON value as one readable line. */
export function asText(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return value.map(asText).join(", ");
  return Object.entries(value)
    .filter(([, part]) => part !== null && part !== undefined)
    .map(([key, part]) => `${label(key)}: ${asText(part)}`)
    .join(" · ");
}
