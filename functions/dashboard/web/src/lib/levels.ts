// The levels from worst to least, as filters and counts list them.

import type { Level } from "../api/types";

export const LEVELS: Level[] = ["critical", "high", "medium", "low", "informational"];

/** Options of the "at least this level" filter. */
export const LEVEL_OPTIONS: [value: string, text: string][] = [
  ["", "Any level"],
  ["critical", "Critical"],
  ["high", "High and above"],
  ["medium", "Medium and above"],
  ["low", "Low and above"],
];
