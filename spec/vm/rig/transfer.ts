/** Transfers of the pattern between the host and the guest, which can be watched, and what happens in the middle of them. */
import { connect, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ExecutionContext } from 'ava';
import { eventually, within } from '../../helpers/time.js';
import type { Laboratory } from './laboratory.js';
import { PatternChecker, patternPieces } from './pattern.js';

/** More than any test moves, so that a transfer of this size never comes to its end by itself. */
const ENDLESS_BYTES = 2 ** 40;
const MOVES_MS = 120_000;

interface TransferResult {
  /** What the receiver got; null for an upload that was broken off. */
  readonly bytes: number | null;
  readonly wrongAt: number | null;
  /** The system's code where the socket failed (`ECONNRESET`), or null after an orderly end. */
  readonly error: string | null;
}

export interface Transfer {
  /** The number of bytes that passed the local socket so far. */
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
 * Lets something happen in the middle of transfers without an end. Both have to break off, with a prefix of what was sent, and
 * the session has to come back.
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
    // The sockets of a process that was killed show an end of file.
    if (hasStayed) t.not(error, null);
  }
  await both.waitForSession(hasStayed ? from : 0);
}

/** Asks the source for bytes, and checks them as they come. */
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

/** Sends bytes to the sink, which checks them, and reports when it has seen the end. */
function startUpload(port: number, bytes: number): Transfer {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  // Its failure shows on the reading side too.
  pipeline(patternPieces(bytes), socket).catch(() => undefined);
  const receive = async () => {
    let report = '';
    const error = await drain(socket, (chunk) => (report += chunk.toString()));
    if (!report.endsWith('\n')) return { bytes: null, wrongAt: null, error };
    return { ...(JSON.parse(report) as { bytes: number; wrongAt: number | null }), error };
  };
  return { bytes: () => socket.bytesWritten - socket.writableLength, ended: receive() };
}

/** Reads a socket to its end, and returns the code of its failure or null. */
async function drain(socket: Socket, handle: (chunk: Buffer) => void): Promise<string | null> {
  try {
    for await (const chunk of socket as Readable as AsyncIterable<Buffer>) handle(chunk);
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}
