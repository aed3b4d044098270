/** Exit statuses, and the handling of defects. docs/errors.md lists all statuses. */
import { setTimeout as delay } from 'node:timers/promises';
import { ERROR_CODES, toVproxyError } from '../lib/errors.js';

/** Success; also an orderly shutdown by SIGINT or SIGTERM. */
export const EXIT_OK = 0;

/** Returns the exit status for an error: that of its code, or that of `internal`. */
export function exitStatusOf(error: unknown): number {
  return toVproxyError(error).row.exit;
}

/** How long an exit waits for koffi, whose files may hang, or else for the system calls, in milliseconds. */
const PATIENCE_MS = 500;

const hasCalls = (): boolean => process.getActiveResourcesInfo().some((kind) => kind.startsWith('FSReq'));

/** Exits although a file system hangs: Node waits for system calls in other threads, without end. Without koffi, by SIGKILL. */
export async function exitDespiteHang(status: number): Promise<never> {
  if (hasCalls()) {
    const late = delay(PATIENCE_MS, null);
    const libc = await Promise.race([
      import('../lib/system/libc.js').then(({ loadLibc }) => loadLibc()).catch(() => late),
      late,
    ]);
    if (libc !== null) process.once('exit', libc.declare('void _exit(int status)'));
    else if (hasCalls()) process.once('exit', () => process.kill(process.pid, 'SIGKILL'));
  }
  process.exit(status);
}

let reportDefect: (error: unknown) => void = () => undefined;

/** Calls `report` with an uncaught exception, then exits with status 70. */
export function exitOnDefect(report: (error: unknown) => void): void {
  reportDefect = report;
  if (process.listenerCount('uncaughtException') > 0) return;
  // What fails in the moment until then may follow from it.
  process.once('uncaughtException', (error) => {
    process.on('uncaughtException', () => undefined);
    reportDefect(error);
    void exitDespiteHang(ERROR_CODES.internal.exit);
  });
}
