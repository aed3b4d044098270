/** What a check is. Types alone. */
import type { Finding } from '../finding.js';
import type { Machine } from '../machine.js';

/** Looks at one subject. What it throws becomes a finding of its own. */
export type Check<S> = (machine: Machine, subject: S) => Promise<Finding[]> | Finding[];
