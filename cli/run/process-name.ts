/** The name of a proxy process in ps(1), top(1) etc. */
import { writeFileSync } from 'node:fs';

/** The name, which the system truncates to 15 characters. */
export const PROCESS_NAME = 'vproxy';

/**
 * Names this process `vproxy` instead of `node` or `MainThread`, and makes its command line `vproxy` with `words`, without the
 * interpreter and its options: pgrep(1), top(1) and the first line of `systemctl status` show the former, ps(1) the latter.
 */
export function nameProcess(words: readonly string[]): void {
  // Also names the thread, and truncates the words to the space of the old command line.
  process.title = [PROCESS_NAME, ...words].join(' ');
  try {
    writeFileSync('/proc/self/comm', PROCESS_NAME);
  } catch {
    // Another system, or Node's permission model: the name alone, rather than words as the name.
    process.title = PROCESS_NAME;
  }
}
