/** What the sessions of the conversations hand on to their local ends, byte for byte. */
import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { endsWith } from '../helpers/conversation.js';
import type { FramePeer } from '../helpers/frame-peer.js';

const { DATA } = FRAME_TYPE;

/** How many bytes of stream 1 were handed on. */
const bytesOf = (peer: FramePeer): number => peer.sinks.get(1)?.bytes.length ?? -1;

for (const [integrity, fault] of [
  ['full', { crc: 7 }],
  ['frame', { trailer: 7 }],
] as const) {
  test(`R-INTEGRITY-3: no byte of DATA is handed on before it is verified; integrity ${integrity}`, (t) => {
    const act = (peer: FramePeer) => {
      peer.sendOpen(1);
      const right = peer.frame(DATA, 1, Buffer.alloc(5000, 7));
      peer.write(right.subarray(0, right.length - 1), 100);
      t.is(bytesOf(peer), 0);
      peer.write(right.subarray(right.length - 1));
      t.is(bytesOf(peer), 5000);
      peer.write(peer.frame(DATA, 1, Buffer.alloc(5000, 7), fault), 100);
      t.is(bytesOf(peer), 5000);
    };
    endsWith(t, 'desync', act, { integrity });
  });
}
