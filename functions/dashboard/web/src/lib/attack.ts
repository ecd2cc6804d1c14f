// Names and addresses of MITRE ATT&CK tactics and techniques. An id that isn't
// known here is still shown, only without a link, so a newer ATT&CK version on
// the server never breaks the page.

import { label } from "./format";

const SITE = "https://attack.mitre.org";

const TACTICS: Record<string, [id: string, name: string]> = {
  reconnaissance: ["TA0043", "Reconnaissance"],
  "resource-development": ["TA0042", "Resource Development"],
  "initial-access": ["TA0001", "Initial Access"],
  execution: ["TA0002", "Execution"],
  persistence: ["TA0003", "Persistence"],
  "privilege-escalation": ["TA0004", "Privilege Escalation"],
  "defense-evasion": ["TA0005", "Defense Evasion"],
  "credential-access": ["TA0006", "Credential Access"],
  discovery: ["TA0007", "Discovery"],
  "lateral-movement": ["TA0008", "Lateral Movement"],
  collection: ["TA0009", "Collection"],
  "command-and-control": ["TA0011", "Command and Control"],
  exfiltration: ["TA0010", "Exfiltration"],
  impact: ["TA0040", "Impact"],
};

export interface AttackLink {
  text: string;
  url: string | null;
}

export function tactic(shortName: string): AttackLink {
  const known = TACTICS[shortName];
  if (known === undefined) return { text: label(shortName), url: null };
  return { text: known[1], url: `${SITE}/tactics/${known[0]}/` };
}

export function technique(techniqueId: string): AttackLink {
  const parts = /^(T\d{4})(?:\.(\d{3}))?$/.exec(techniqueId);
  if (parts === null) return { text: techniqueId, url: null };
  const sub = parts[2] === undefined ? "" : `${parts[2]}/`;
  return { text: techniqueId, url: `${SITE}/techniques/${parts[1]}/${sub}` };
}
