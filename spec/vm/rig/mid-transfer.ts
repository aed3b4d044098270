/** What happens in the middle of transfers: one each way is under way, something breaks it off, the session comes back. */
import type { ExecutionContext } from 'ava';

import { within } from '../../helpers/time.js';
import { ENDED_BY_RESTART } from '../../helpers/vproxy-process.js';
import type { Laboratory } from './laboratory.js';
import { startDownload, startUpload, type Transfer, type TransferResult, waitForProgress } from './transfer.js';

/** More than any test moves, so that a transfer of this size never comes to its end by itself. */
export const ENDLESS_BYTES = 2 ** 40;
const RESTART_MS = 120_000;

/** One transfer each way that has no end, both `progressBytes` further than at their start. */
export async function startTransfers(laboratory: Pick<Laboratory, 'port'>, progressBytes: number): Promise<Transfer[]> {
  const download = startDownload(await laboratory.port('source'), ENDLESS_BYTES);
  const upload = startUpload(await laboratory.port('sink'), ENDLESS_BYTES);
  const transfers = [download, upload];
  await Promise.all(transfers.map((transfer) => waitForProgress(transfer, progressBytes)));
  return transfers;
}

/** How all of them ended. */
export function endsOf(transfers: readonly Transfer[]): Promise<TransferResult[]> {
  return within(RESTART_MS, 'the end of the transfers', Promise.all(transfers.map((transfer) => transfer.ended)));
}

/** Both ended as a failure, not as an end of file, and what came is a prefix of what was sent. */
export async function checkBrokenOff(t: ExecutionContext, transfers: readonly Transfer[]): Promise<void> {
  for (const { wrongAt, error } of await endsOf(transfers)) {
    t.is(wrongAt, null);
    t.not(error, null);
  }
}

/** Kills the vproxy of the guest in the middle of transfers, and waits for the session with the next one. */
export async function killGuestVproxy(
  t: ExecutionContext,
  laboratory: Laboratory,
  progressBytes: number,
): Promise<void> {
  const { host } = laboratory;
  const transfers = await startTransfers(laboratory, progressBytes);
  const from = host.lines.length;
  await laboratory.guestVproxy.kill('KILL');
  await laboratory.guestVproxy.waitForEnd();
  await laboratory.startGuestVproxy();
  await host.waitForLine(ENDED_BY_RESTART, { from, timeoutMs: RESTART_MS });
  await checkBrokenOff(t, transfers);
  await laboratory.waitForSession(from);
}

/** Kills the vproxy of the host in the middle of transfers, and waits for the session with the next one. */
export async function killHostVproxy(
  t: ExecutionContext,
  laboratory: Laboratory,
  progressBytes: number,
): Promise<void> {
  const { host } = laboratory;
  const transfers = await startTransfers(laboratory, progressBytes);
  host.kill('SIGKILL');
  await host.exited;
  // The sockets of a killed process show only an end of file, so only the bytes can be checked.
  for (const result of await endsOf(transfers)) t.is(result.wrongAt, null);
  laboratory.startHost();
  await laboratory.waitForSession(0);
}

/** Resets the guest in the middle of transfers, and waits for the session with its next boot. */
export async function resetGuest(t: ExecutionContext, laboratory: Laboratory, progressBytes: number): Promise<void> {
  const { guest, host } = laboratory;
  const transfers = await startTransfers(laboratory, progressBytes);
  const from = host.lines.length;
  await guest.reset();
  await laboratory.startGuestVproxy();
  await host.waitForLine(ENDED_BY_RESTART, { from, timeoutMs: RESTART_MS });
  await checkBrokenOff(t, transfers);
  await laboratory.waitForSession(from);
}
