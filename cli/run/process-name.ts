/** What a process that runs a proxy is called in the lists of the system. */
import { writeFileSync } from 'node:fs';

/** The name, which the system cuts to 15 characters. */
export const PROCESS_NAME = 'vproxy';

/**
 * Calls this process `vproxy`, where it would be `node` or `MainThread`, and its command line `vproxy` with its `words`, without
 * the interpreter and its options: pgrep(1), top(1) and the first line of `systemctl status` show the one, ps(1) the other.
 */
export function nameProcess(words: readonly string[]): void {
  // Names the thread, too, and cuts what does not fit in the place of the old command line.
  process.title = [PROCESS_NAME, ...words].join(' ');
  try {
    writeFileSync('/proc/self/comm', PROCESS_NAME);
  } catch {
    // Another system, or Node's permission model: a name without the words, rather than words for a name.
    process.title = PROCESS_NAME;
  }
}
