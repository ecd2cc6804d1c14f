// Says in words by which way a record reached CloudSentinel: whether an action
// may rest on it depends on that, so an analyst must be able to read it.

import { asText } from "./format";

export function provenanceText(provenance: unknown): string {
  if (typeof provenance !== "object" || provenance === null) return asText(provenance);
  const { received_at: _, ...rest } = provenance as Record<string, unknown>;
  const part = (name: string) => asText(rest[name]);
  switch (rest.channel) {
    case "bus":
      return `Event bus ${part("bus")} of account ${part("account")}`;
    case "object": {
      const sole = rest.only_cloudtrail_writes === true ? " (only CloudTrail writes there)" : "";
      return `s3://${part("bucket")}/${part("key")}${sole}`;
    }
    case "cloud_trail_api":
      return `CloudTrail API of account ${part("account")} in ${part("region")}`;
    case "api":
      return `Sent to the API by ${sender(part("user"))}`;
    case "folder":
      return `File ${part("path")}`;
    case "simulated":
      return `Simulated account ${part("account")}`;
    default:
      return asText(rest);
  }
}

/** An API token is told from a user of the same name; its id stays, because names repeat. */
function sender(user: string): string {
  return user.startsWith("token:") ? `the API token ${user.slice("token:".length)}` : user;
}
