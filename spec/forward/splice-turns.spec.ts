/** How much is read from a local socket per turn of the event loop (docs/architecture.md, "Turns and memory"). */
import net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { LARGE_BYTES } from '../../lib/forward/frame-slab.js';
import { Splice } from '../../lib/forward/splice.js';
import { readBuffered } from '../../lib/system/sockets/node-sockets.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { within } from '../helpers/time.js';
import { roomOf, unixPair } from '../helpers/unix-pair.js';

/** The bytes sent per turn from the local socket of stream 3, beside stream 1, which sent some small frames. */
async function bytesPerTurn(t: ExecutionContext, smallFrames: number): Promise<number[]> {
  const { near, far } = await unixPair(t);
  const bytes = roomOf(near);
  const peer = FramePeer.established({ peerLimits: { streamCredit: 2 ** 20 } });
  peer.sendOpen(1);
  for (let sent = 0; sent < smallFrames; sent += 1) peer.streams.get(1)?.send(Buffer.alloc(10), 0, 10, false);
  const splice = new Splice({ clock: peer.clock, onDone: () => undefined });
  peer.onStream = (stream) => {
    stream.attach(splice);
    stream.accept();
  };
  peer.sendOpen(3);
  const stream = peer.streams.get(3);
  if (stream === undefined) throw new Error('there is no stream');
  splice.join(stream, readBuffered(far, splice.onread));
  const turns: number[] = [];
  let sentBytes = 0;
  const isSent = new Promise<void>((resolve) => {
    const endTurn = (): void => {
      turns.push(stream.sentBytes - sentBytes);
      ({ sentBytes } = stream);
      peer.pump();
      if (sentBytes < bytes) setImmediate(endTurn);
      else resolve();
    };
    setImmediate(endTurn);
  });
  await within(20_000, 'all that is in the socket', isSent);
  t.is(sentBytes, bytes);
  return turns;
}

test('beside an interactive stream a local socket is read once per turn, one small frame at a time, to the last byte', async (t) => {
  const turns = await bytesPerTurn(t, 2);
  t.is(Math.max(...turns), 32_768);
});

test('without one it is read as long as there is more', async (t) => {
  t.true(Math.max(...(await bytesPerTurn(t, 0))) > 32_768);
});

test('memory that the channel kept is reused once it is written', (t) => {
  const peer = FramePeer.established({ capacityBytes: 64, peerLimits: { streamCredit: 2 ** 20 } });
  const splice = new Splice({ clock: peer.clock, onDone: () => undefined });
  peer.onStream = (stream) => {
    stream.attach(splice);
    stream.accept();
  };
  peer.sendOpen(1);
  const stream = peer.streams.get(1);
  if (stream === undefined) throw new Error('there is no stream');
  splice.join(stream, new net.Socket());
  const memory: ArrayBufferLike[] = [];
  while (memory.length < 6) {
    const room = splice.onread.buffer();
    if (room.length === LARGE_BYTES) memory.push(room.buffer);
    splice.onread.callback(room.length, room);
    t.true(peer.outbound.unwrittenBytes > 0);
    peer.pump();
  }
  t.true(new Set(memory).size <= 2);
});
