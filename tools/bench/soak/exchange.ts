/**
 * One transfer through a forward: both ends send at their own pace, and verify what they receive.
 */
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { hiddenReset } from '../../../lib/system/sockets/node-sockets.js';
import type { EndResult, Ledger, SideName } from './ledger.js';
import { PatternCheck, patternBytes } from './pattern.js';

/** The parameters of an exchange. */
export interface Exchange {
  /** For the figures: `short`, `bulk`. */
  readonly kind: string;
  /** From the opener. */
  readonly upBytes: number;
  /** To the opener. */
  readonly downBytes: number;
  /** The bytes that both ends write at once. */
  readonly chunkBytes: number;
  /** The pause between two writes. */
  readonly pauseMs: number;
}

const HEADER_BYTES = 24;
const MAGIC = 0x534f_414b;

/** A transfer that takes this much longer than its pauses is stuck. */
const STUCK_MS = 90_000;

let exchanges = 0;

/** The ledger of exchanges, and the signal that ends pauses. */
export interface Exchanging {
  readonly ledger: Ledger;
  /** When aborted, no end pauses any longer. */
  readonly signal: AbortSignal;
}

/** Opens a connection to a forward and exchanges over it; both ends are judged. Resolves with true if everything arrived here. */
export async function exchange(
  { ledger, signal }: Exchanging,
  side: SideName,
  port: number,
  plan: Exchange,
): Promise<boolean> {
  exchanges += 1;
  const key = 2 * exchanges;
  const ticket = ledger.begin(side);
  const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true });
  const header = Buffer.alloc(HEADER_BYTES);
  const { kind, upBytes, downBytes, chunkBytes, pauseMs } = plan;
  for (const [index, value] of [MAGIC, key, upBytes, downBytes, chunkBytes, pauseMs].entries()) {
    header.writeUInt32BE(value, 4 * index);
  }
  socket.write(header);
  const check = new PatternCheck(key + 1, downBytes);
  socket.on('data', (chunk: Buffer) => check.push(chunk));
  const pauses = Math.ceil(Math.max(upBytes, downBytes) / chunkBytes) * pauseMs;
  const timer = setTimeout(() => {
    ledger.problem(`stuck: ${kind} at the ${side}, ${check.receivedBytes} of ${downBytes} bytes received`);
    socket.destroy();
  }, STUCK_MS + pauses);
  const ended = endOf(socket);
  const [end] = await Promise.all([ended, sendPattern(socket, key, upBytes, { ...plan, signal })]);
  clearTimeout(timer);
  const result = { end, isPrefix: check.isPrefix, isComplete: check.isComplete, receivedBytes: check.receivedBytes };
  ledger.judge(kind, ticket, result);
  return end === 'ended' && check.isComplete;
}

/** Serves the target of a forward on a side, as the header of each connection requests. */
export function serveExchanges({ ledger, signal }: Exchanging, side: SideName, socket: net.Socket): void {
  const ticket = ledger.begin(side);
  let head = Buffer.alloc(0);
  let check: PatternCheck | null = null;
  socket.on('data', (chunk: Buffer) => {
    if (check !== null) {
      check.push(chunk);
      return;
    }
    head = Buffer.concat([head, chunk]);
    if (head.length < HEADER_BYTES) return;
    const [magic, key = 0, upBytes = 0, downBytes = 0, chunkBytes = 1, pauseMs = 0] = Array.from(
      { length: 6 },
      (_, index) => head.readUInt32BE(4 * index),
    );
    check = new PatternCheck(key, upBytes);
    if (magic === MAGIC) void sendPattern(socket, key + 1, downBytes, { chunkBytes, pauseMs, signal });
    else check.isPrefix = false;
    if (head.length > HEADER_BYTES) check.push(head.subarray(HEADER_BYTES));
  });
  void endOf(socket).then((end) => {
    // Without a header, this side would never end.
    if (check === null) socket.destroy();
    // A dial cancelled while the system was connecting: no bytes, and the system reports only EOF.
    if (end === 'ended' && head.length === 0 && !ledger.isUndisturbed(ticket)) {
      ledger.count('given up', false);
      return;
    }
    const { receivedBytes = head.length, isPrefix = true, isComplete = false } = check ?? {};
    const result: EndResult = { end, receivedBytes, isPrefix, isComplete };
    ledger.judge('target', ticket, result);
  });
}

/** Resolves with how a socket's readable side ended, after closing the socket. */
export function endOf(socket: net.Socket): Promise<'ended' | 'reset'> {
  socket.on('error', () => undefined);
  return new Promise((resolve) => {
    socket.once('end', () => {
      const failure = hiddenReset(socket);
      if (failure !== null) socket.destroy();
      resolve(failure === null ? 'ended' : 'reset');
    });
    socket.once('close', () => resolve('reset'));
  });
}

async function sendPattern(
  socket: net.Socket,
  key: number,
  bytes: number,
  { chunkBytes, pauseMs, signal }: Pick<Exchange, 'chunkBytes' | 'pauseMs'> & Pick<Exchanging, 'signal'>,
): Promise<void> {
  for (let sent = 0; sent < bytes && !socket.destroyed; ) {
    const size = Math.min(chunkBytes, bytes - sent);
    if (!socket.write(patternBytes(key, sent, size))) await drained(socket);
    sent += size;
    if (pauseMs > 0) await delay(pauseMs, undefined, { signal }).catch(() => undefined);
  }
  socket.end();
}

function drained(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) resolve();
    const settle = () => {
      socket.off('drain', settle).off('close', settle);
      resolve();
    };
    socket.on('drain', settle).on('close', settle);
  });
}
