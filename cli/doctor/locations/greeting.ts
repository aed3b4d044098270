/** What a program says first on a connection, which shows whether it is a vproxy. */
import type net from 'node:net';
import { Stranger } from '../../../lib/codec/stranger.js';

/** How long to listen for it: a vproxy that listens sends at once. */
const GREETING_MS = 500;
const ENOUGH_BYTES = 64;

/** Reads for a moment. Resolves with a clause that says what answers instead of a vproxy; null if that cannot be told. */
export async function readGreeting(socket: net.Socket, timeoutMs = GREETING_MS): Promise<string | null> {
  const stranger = new Stranger();
  let byteCount = 0;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, Math.min(timeoutMs, GREETING_MS));
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    socket.on('data', (bytes) => {
      stranger.note(bytes);
      byteCount += bytes.length;
      if (byteCount >= ENOUGH_BYTES) done();
    });
    socket.once('end', done).once('error', done);
  });
  return stranger.describe();
}
