// MITRE ATT&CK tactics and techniques, each with a link to its page there.

import type { Attack } from "../api/types";
import { type AttackLink, tactic, technique } from "../lib/attack";

export function AttackTags({ attack }: { attack: Attack }) {
  if (attack.tactics.length === 0 && attack.techniques.length === 0) return null;
  return (
    <ul className="tags">
      {[...attack.tactics.map(tactic), ...attack.techniques.map(technique)].map((link) => (
        <li key={link.text}>
          <Tag link={link} />
        </li>
      ))}
    </ul>
  );
}

function Tag({ link }: { link: AttackLink }) {
  if (link.url === null) return <span className="tag">{link.text}</span>;
  return (
    <a className="tag" href={link.url} target="_blank" rel="noreferrer">
      {link.text}
      <span className="visually-hidden"> (MITRE ATT&CK, opens in a new tab)</span>
    </a>
  );
}
