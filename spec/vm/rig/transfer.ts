/** Transfers of the pattern between the host and the guest, that can be watched and may be broken off. */
import { connect, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { eventually } from '../../helpers/time.js';
import { PatternChecker, patternPieces } from './pattern.js';

/** How a transfer ended. */
export interface TransferResult {
  /** What the receiver got; null for an upload that was broken off. */
  readonly bytes: number | null;
  /** Where a byte was wrong, or null. */
  readonly wrongAt: number | null;
  /** The system's code where the socket failed (`ECONNRESET`), or null after an orderly end. */
  readonly error: string | null;
}

/** A transfer under way. */
export interface Transfer {
  /** The number of bytes that passed the local socket so far. */
  readonly bytes: () => number;
  /** Never rejects. */
  readonly ended: Promise<TransferResult>;
}

/** Asks the source at `port` for `bytes` bytes and checks them as they come. */
export function startDownload(port: number, bytes: number): Transfer & { readonly socket: Socket } {
  const checker = new PatternChecker();
  const socket = connect(port, '127.0.0.1');
  socket.write(`${bytes}\n`);
  return { bytes: () => checker.bytes, ended: receive(socket, checker), socket };
}

async function receive(socket: Socket, checker: PatternChecker): Promise<TransferResult> {
  const error = await drain(socket, (chunk) => checker.push(chunk));
  return { bytes: checker.bytes, wrongAt: checker.wrongAt, error };
}

/** Sends `bytes` bytes to the sink at `port`, which checks them and reports when it has seen the end. */
export function startUpload(port: number, bytes: number): Transfer {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  // Its failure shows on the reading side too.
  pipeline(patternPieces(bytes), socket).catch(() => undefined);
  return { bytes: () => socket.bytesWritten - socket.writableLength, ended: receiveReport(socket) };
}

async function receiveReport(socket: Socket): Promise<TransferResult> {
  let report = '';
  const error = await drain(socket, (chunk) => (report += chunk.toString()));
  if (!report.endsWith('\n')) return { bytes: null, wrongAt: null, error };
  return { ...(JSON.parse(report) as { bytes: number; wrongAt: number | null }), error };
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

/** Waits until a transfer is really under way. */
export async function waitForProgress(transfer: Transfer, bytes: number): Promise<void> {
  const goal = transfer.bytes() + bytes;
  await eventually(() => transfer.bytes() >= goal, { timeoutMs: 120_000, what: `${goal} bytes of a transfer` });
}
