import test from 'ava';
import { jsonOf } from '../../conformance/frame-log.js';
import { FRAME_TYPE, INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { endsWith, goesOn } from '../helpers/conversation.js';
import { FramePeer } from '../helpers/frame-peer.js';

const { DATA, PING, PONG, RESET } = FRAME_TYPE;
const EIGHT = Buffer.from('12345678');

test('R-LIVE-1: a PING is answered with its own bytes; several in one piece may get one PONG, of the newest', (t) => {
  const peer = FramePeer.established();
  for (const letters of [['a'], ['a', 'b', 'c']]) {
    peer.write(Buffer.concat(letters.map((letter) => peer.frame(PING, 0, Buffer.alloc(8, letter)))));
    const pongs = peer.log.take().map(({ name, payload }) => `${name} ${payload.toString()}`);
    t.deepEqual(pongs, [`PONG ${letters.at(-1)?.repeat(8)}`]);
  }
});

for (const [what, sends, receives, everyMs] of [
  ['every 5 s while nothing is received, though something is sent', true, false, 5000],
  ['every 10 s while nothing is sent, though something is received', false, true, 10_000],
  ['every 5 s while the session is idle', false, false, 5000],
  ['never while the session is busy both ways', true, true, Number.POSITIVE_INFINITY],
] as const) {
  test(`R-LIVE-1: PING goes out ${what}`, (t) => {
    const peer = FramePeer.established({ peerLimits: { streamCredit: 2 ** 20 } });
    peer.sendOpen(1);
    peer.log.take();
    for (let second = 0; second < 60; second += 1) {
      if (receives) peer.sendData(1, 'x');
      if (sends) peer.sendFrom(1, 'x');
      peer.advance(1000);
    }
    const pings = peer.takeTexts().filter((text) => text === 'PING 0').length;
    // A side looks every 2.5 s.
    t.true(pings <= 60_000 / everyMs && pings >= Math.floor(60_000 / (everyMs + 2500)), `${pings}`);
  });
}

for (const integrity of INTEGRITY_LEVELS) {
  for (const lost of [1, 23, 24, 25, 4000]) {
    test(`R-LIVE-4: a frame that lost ${lost} bytes and is followed by nothing is detected within 5 s, with integrity ${integrity}`, (t) => {
      // Fewer than the PONG has end an unknown type, whose CRC says nothing: the next header shows them.
      const types = lost > 24 ? [DATA, 0x80] : [DATA];
      const ways = [1, 5, 1000].flatMap((pieceBytes) => types.map((type) => ({ pieceBytes, type })));
      for (const { pieceBytes, type } of ways) {
        const act = (peer: FramePeer): void => {
          peer.sendOpen(1);
          const frame = peer.frame(type, 1, Buffer.alloc(10_000, 'x'));
          peer.write(Buffer.concat([frame.subarray(0, 5000), frame.subarray(5000 + lost)]), 3000);
          peer.write(peer.frame(PONG, 0, pingWithin(peer, 2500)), pieceBytes);
        };
        endsWith(t, 'desync', act, { integrity });
      }
    });
  }
}

/** The PINGs that the side sends within this time. */
function pingWithin(peer: FramePeer, ms: number): Buffer | undefined {
  peer.log.take();
  peer.advance(ms);
  return peer.log.take().find(({ type }) => type === PING)?.payload;
}

test('R-LIVE-4: a frame that stays incomplete for a day because its sender was paused is not a loss', (t) => {
  const peer = FramePeer.established();
  peer.sendOpen(1);
  const frame = peer.frame(DATA, 1, Buffer.alloc(10_000, 'x'));
  peer.write(frame.subarray(0, 5000));
  const payload = pingWithin(peer, 24 * 3_600_000);
  peer.write(frame.subarray(5000), 100);
  peer.send(PONG, 0, payload);
  t.is(pingWithin(peer, 2500), undefined, 'it does not ask any more');
  t.deepEqual(peer.endings, []);
});

/** Writes the pieces, with a gap after each. */
function drip(peer: FramePeer, pieces: readonly Buffer[], gapMs: number): void {
  for (const piece of pieces) {
    if (peer.endings.length > 0) return;
    peer.write(piece);
    peer.advance(gapMs);
  }
}

const singly = (bytes: Buffer): Buffer[] => [...bytes].map((byte) => Buffer.from([byte]));

test('R-FLOW-9: a frame that stays incomplete for 30 s, with a byte every second, is a desync', (t) => {
  for (const integrity of INTEGRITY_LEVELS) {
    const act = (peer: FramePeer): void => {
      peer.sendOpen(1);
      drip(peer, singly(peer.frame(DATA, 1, Buffer.alloc(100))), 1000);
    };
    endsWith(t, 'desync', act, { integrity });
  }
  endsWith(t, 'desync', (peer) => drip(peer, singly(peer.frame(PING, 0, EIGHT)), 14_000));
});

test('R-FLOW-9: a gap of an hour, or of 15 s each time, within a frame is a pause, not a fault; many complete frames may take any time', (t) => {
  goesOn(t, (peer) => {
    const [first = EIGHT, ...rest] = singly(peer.frame(PING, 0, EIGHT));
    drip(peer, [first], 3_600_000);
    peer.write(Buffer.concat(rest));
    drip(peer, singly(peer.frame(PING, 0, EIGHT)), 15_000);
    for (let second = 0; second < 120; second += 1) {
      const frame = peer.frame(PONG, 0, EIGHT);
      drip(peer, [frame.subarray(0, 10), frame.subarray(10)], 500);
    }
    peer.log.take();
  });
});

test('R-CODE-2: a message is cut to 512 bytes when sent, and escaped when received', (t) => {
  const peer = FramePeer.established();
  peer.say('OPEN 1, OPEN 3, OPEN 5');
  peer.log.take();
  peer.streams.get(1)?.reset('local-error', 'ä'.repeat(1000));
  peer.streams.get(3)?.reset('local-error', '\u0001'.repeat(1000));
  peer.pump();
  const lengths = peer.log.take().map((frame) => Buffer.byteLength(String(jsonOf(frame)['message'])));
  t.deepEqual(lengths, [512, 512]);
  peer.send(RESET, 5, { code: 'denied', message: `\u001b]0;title\u0007${'y'.repeat(3000)}` });
  const message = peer.sinks.get(5)?.reason?.message ?? '';
  t.regex(message, /^\\x1b\]0;title\\x07y+…$/);
  t.true(message.length < 600);
});
