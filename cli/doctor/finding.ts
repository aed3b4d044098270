/** What a check comes to. */
import { FINDINGS, type FindingId } from './finding-table.js';
import type { Level } from './findings/row.js';

/** One finding, about the subject of the check. */
export interface Finding {
  readonly id: FindingId;
  /** One line for people, in which all that is foreign is escaped. */
  readonly message: string;
  /** What to do; null where there is nothing to be done. */
  readonly remedy: string | null;
}

/** A finding with what it is about. */
export interface Diagnosis extends Finding {
  /** The check that found it. */
  readonly check: string;
  /** What it is about, such as `channel vm1`. */
  readonly subject: string;
  readonly level: Level;
}

/** A finding; `remedy` is for what the check knows better than the table. */
export function finding(id: FindingId, message: string, remedy: string | null = FINDINGS[id].remedy): Finding {
  return { id, message, remedy };
}

/** The same with what it is about. */
export function diagnose(check: string, subject: string, found: Finding): Diagnosis {
  return { check, subject, level: FINDINGS[found.id].level, ...found };
}
