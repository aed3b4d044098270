/** Keeps the memory of the process small under a flood (docs/decisions/0007-young-generation.md). */
import { setFlagsFromString } from 'node:v8';

/** The versions of Node whose V8 is known to have the flag; any other would only write a complaint to stderr. */
const FIRST_MAJOR = 20;
const LAST_MAJOR = 24;

/** Keeps the young generation of the heap at its first size, 1 MiB a half, where it would grow to 16 MiB. Called once, at the start. */
export function boundYoungGeneration(): void {
  const major = Number.parseInt(process.versions.node, 10);
  if (major >= FIRST_MAJOR && major <= LAST_MAJOR) setFlagsFromString('--semi-space-growth-factor=1');
}
