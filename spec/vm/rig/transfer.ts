/** Observable transfers of the pattern between the host and the guest, and disturbances in the middle of them. */
import { connect, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ExecutionContext } from 'ava';
import { eventually, within } from '../../helpers/time.js';
import type { Laboratory } from './laboratory.js';
import { PatternChecker, patternPieces } from './pattern.js';

/** More than any test moves, so that a transfer of this size never ends by itself. */
const ENDLESS_BYTES = 2 ** 40;
const MOVES_MS = 120_000;

interface TransferResult {
  /** What the receiver got; null for an aborted upload. */
  readonly bytes: number | null;
  readonly wrongAt: number | null;
  /** The error code of the socket (`ECONNRESET`), or null after EOF. */
  readonly error: string | null;
}

export interface Transfer {
  /** The number of bytes through the local socket so far. */
  readonly bytes: () => number;
  /** Never rejects. */
  readonly ended: Promise<TransferResult>;
}

/** One transfer each way, both `progressBytes` further than at their start. */
export async function startTransfers(
  both: Laboratory,
  progressBytes: number,
  bytes = ENDLESS_BYTES,
): Promise<readonly Transfer[]> {
  const transfers = [
    startDownload(await both.port('source'), bytes),
    startUpload(await both.port('sink'), bytes),
  ] as const;
  await makeProgress(transfers, progressBytes);
  return transfers;
}

export async function makeProgress(transfers: readonly Transfer[], bytes: number): Promise<void> {
  const goals = transfers.map((transfer) => transfer.bytes() + bytes);
  const isThere = () => transfers.every((transfer, index) => transfer.bytes() >= (goals[index] ?? 0));
  await eventually(isThere, { timeoutMs: MOVES_MS, what: `${goals.join(' and ')} bytes of the transfers` });
}

export const endsOf = (transfers: readonly Transfer[]): Promise<TransferResult[]> =>
  within(MOVES_MS, 'the end of the transfers', Promise.all(transfers.map(({ ended }) => ended)));

/**
 * Runs a disturbance in the middle of endless transfers. Both must abort, with a prefix of the sent bytes, and the session must
 * be re-established.
 */
export async function disturb(
  t: ExecutionContext,
  both: Laboratory,
  progressBytes: number,
  event: (transfers: readonly Transfer[]) => Promise<unknown>,
): Promise<void> {
  const { host } = both;
  const transfers = await startTransfers(both, progressBytes);
  const from = host.lines.length;
  await event(transfers);
  const hasStayed = both.host === host;
  for (const { wrongAt, error } of await endsOf(transfers)) {
    t.is(wrongAt, null);
    // The sockets of a killed process show EOF.
    if (hasStayed) t.not(error, null);
  }
  await both.waitForSession(hasStayed ? from : 0);
}

/** Requests bytes from the source, and checks them on arrival. */
function startDownload(port: number, bytes: number): Transfer {
  const checker = new PatternChecker();
  const socket = connect(port, '127.0.0.1');
  socket.write(`${bytes}\n`);
  const receive = async () => {
    const error = await drain(socket, (chunk) => checker.push(chunk));
    return { bytes: checker.bytes, wrongAt: checker.wrongAt, error };
  };
  return { bytes: () => checker.bytes, ended: receive() };
}

/** Sends bytes to the sink, which checks them and reports at EOF. */
function startUpload(port: number, bytes: number): Transfer {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  // Its failure shows on the reading side, too.
  pipeline(patternPieces(bytes), socket).catch(() => undefined);
  const receive = async () => {
    let report = '';
    const error = await drain(socket, (chunk) => (report += chunk.toString()));
    if (!report.endsWith('\n')) return { bytes: null, wrongAt: null, error };
    return { ...(JSON.parse(report) as { bytes: number; wrongAt: number | null }), error };
  };
  return { bytes: () => socket.bytesWritten - socket.writableLength, ended: receive() };
}

/** Reads a socket to its end, and resolves with its error code or null. */
async function drain(socket: Socket, handle: (chunk: Buffer) => void): Promise<string | null> {
  try {
    for await (const chunk of socket as Readable as AsyncIterable<Buffer>) handle(chunk);
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}
