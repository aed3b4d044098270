import test from 'ava';
import { FRAME_TYPE, INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { conversations, endedWith, endsWith, goesOn } from '../helpers/conversation.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { RecordingSink } from '../helpers/local-ends.js';

const { DATA, GOAWAY, PING, PONG, RESET } = FRAME_TYPE;
const EIGHT = Buffer.from('12345678');

test('R-LIVE-1: a PING is answered with its own bytes; several in one piece may get one PONG, of the newest', (t) => {
  const peer = FramePeer.established();
  for (const letters of [['a'], ['a', 'b', 'c']]) {
    peer.write(Buffer.concat(letters.map((letter) => peer.frame(PING, 0, Buffer.alloc(8, letter)))));
    const pongs = peer.log.take().map(({ name, payload }) => `${name} ${payload.toString()}`);
    t.deepEqual(pongs, [`PONG ${letters.at(-1)?.repeat(8)}`]);
  }
});

for (const [what, sends, receives] of [
  ['nothing was received for 10 s, though something is sent', true, false],
  ['nothing was sent for 10 s, though something is received', false, true],
  ['the session was busy both ways: never', true, true],
] as const) {
  test(`R-LIVE-1: PING goes out when ${what}`, (t) => {
    const peer = FramePeer.established({ peerLimits: { streamCredit: 2 ** 20 } });
    peer.sendOpen(1);
    peer.log.take();
    for (let second = 0; second < 60; second += 1) {
      if (receives) peer.sendData(1, 'x');
      if (sends) peer.sendFrom(1, 'x');
      peer.advance(1000);
    }
    const pings = peer.takeTexts().filter((text) => text === 'PING 0').length;
    t.true(sends && receives ? pings === 0 : pings >= 4 && pings <= 6, `${pings}`);
  });
}

/** A DATA frame of `bytes` bytes that lost `lost` of its body on the way. */
const damaged = (peer: FramePeer, bytes: number, lost: number): Buffer => {
  const frame = peer.frame(DATA, 1, Buffer.alloc(bytes, 'x'));
  return Buffer.concat([frame.subarray(0, bytes / 2), frame.subarray(bytes / 2 + lost)]);
};

const pingsOf = (peer: FramePeer): Buffer[] =>
  peer.log
    .take()
    .filter(({ type }) => type === PING)
    .map(({ payload }) => payload);

for (const integrity of INTEGRITY_LEVELS) {
  for (const lost of [1, 23, 24, 25, 4000]) {
    test(`R-LIVE-4: a frame that lost ${lost} bytes, behind which nothing comes, is found within 5 s, with integrity ${integrity}`, (t) => {
      for (const pieceBytes of [1, 5, 1000]) {
        const act = (peer: FramePeer): void => {
          peer.sendOpen(1);
          peer.write(damaged(peer, 10_000, lost), 3000);
          peer.log.take();
          peer.advance(2500);
          const [payload] = pingsOf(peer);
          t.truthy(payload, 'it asks');
          peer.write(peer.frame(PONG, 0, payload), pieceBytes);
        };
        endsWith(t, 'desync', act, { integrity });
      }
    });
  }
}

test('R-LIVE-4: a frame that stands for a day, because its sender was paused, is no loss', (t) => {
  const peer = FramePeer.established();
  peer.sendOpen(1);
  const frame = peer.frame(DATA, 1, Buffer.alloc(10_000, 'x'));
  peer.write(frame.subarray(0, 5000));
  peer.log.take();
  peer.advance(24 * 3_600_000);
  const [payload] = pingsOf(peer);
  peer.write(frame.subarray(5000), 100);
  peer.send(PONG, 0, payload);
  t.deepEqual(peer.endings, []);
  peer.advance(2500);
  t.is(pingsOf(peer).length, 0, 'it does not ask any more');
});

test('R-FLOW-9: a frame that stays incomplete for 30 s, with a byte every second, is a desync', (t) => {
  const drip = (peer: FramePeer, bytes: Buffer, gapMs: number): void => {
    for (const byte of bytes) {
      if (peer.endings.length > 0) return;
      peer.write(Buffer.from([byte]));
      peer.advance(gapMs);
    }
  };
  for (const integrity of INTEGRITY_LEVELS) {
    const act = (peer: FramePeer): void => {
      peer.sendOpen(1);
      drip(peer, peer.frame(DATA, 1, Buffer.alloc(100)), 1000);
    };
    endsWith(t, 'desync', act, { integrity });
  }
  endsWith(t, 'desync', (peer) => drip(peer, peer.frame(PING, 0, EIGHT), 14_000));
});

test('R-FLOW-9: a gap of an hour, or of 15 s each time, within a frame is a pause and no fault', (t) => {
  for (const [gaps, gapMs] of [
    [1, 3_600_000],
    [20, 15_000],
  ] as const) {
    goesOn(t, (peer) => {
      const frame = peer.frame(PING, 0, EIGHT);
      for (let at = 0; at < gaps; at += 1) {
        peer.write(frame.subarray(at, at + 1));
        peer.advance(gapMs);
      }
      peer.write(frame.subarray(gaps));
      peer.log.take();
    });
  }
});

test('R-FLOW-9: many small frames, each whole, may take as long as they like', (t) => {
  goesOn(t, (peer) => {
    for (let second = 0; second < 120; second += 1) {
      const frame = peer.frame(PONG, 0, EIGHT);
      peer.write(frame.subarray(0, 10));
      peer.advance(500);
      peer.write(frame.subarray(10));
      peer.advance(500);
    }
    peer.log.take();
  });
});

conversations({
  'R-LIVE-2: a week of silence ends no session where a peer may be paused': `
    OPEN 1, wait 604800000 -> ...
    DATA 1 still -> nothing
    1 is told data`,
  'R-LIVE-2: 30 s of silence end a session where that was set, without a GOAWAY': `
    given settings.deadAfterMs=30000
    wait 29000 -> PING 0, PING 0, PING 0
    PONG 0, wait 29000 -> ...
    wait 10000 -> nothing, ends channel-silent`,
  'R-LIVE-2: a clock that jumped says nothing of the peer: the wait begins again': `
    given settings.deadAfterMs=30000
    jump 3600000, wait 10000 -> ...
    wait 30000 -> ..., ends channel-silent`,
  'R-LIVE-3: after GOAWAY shutdown by the peer no stream is opened either way, and those that are open go on': `
    open far, open early, ACCEPT 2, OPEN 1 -> OPEN 2 far, OPEN 4 early, ACCEPT 1
    GOAWAY 0 shutdown 2 -> nothing
    early is told end shutdown
    open more -> cannot open: shutdown
    OPEN 3 -> REFUSE 3 shutdown
    DATA 1 still, FIN 1, finish 1 -> FIN 1
    1 is told data, fin, end
    RESET 2 cancelled -> nothing, ends shutdown`,
  'R-LIVE-3: a GOAWAY shutdown ends the session at once where no stream is open, else after 30 s': [
    'GOAWAY 0 shutdown -> nothing, ends shutdown',
    `OPEN 1, GOAWAY 0 shutdown, wait 29999 -> ...
     wait 1 -> RESET 1 shutdown, GOAWAY 0 shutdown 1, ends shutdown
     1 is told end shutdown`,
  ],
  'R-LIVE-4: a frame that was lost whole is found by the PING that follows what was sent': `
    OPEN 1, wait 10000 -> ...
    send 1 x, wait 2500 -> DATA 1 1, PING 0
    wait 7500 -> nothing`,
  'R-LIVE-3: a side that drains says GOAWAY with the highest id that it serves, and leaves with its last stream': `
    OPEN 7, drain update, drain again -> ACCEPT 7, GOAWAY 0 shutdown 7
    OPEN 9 -> REFUSE 9 shutdown
    FIN 7, finish 7 -> FIN 7, ends shutdown`,
  'R-LIVE-3: a side that drains gives up after 30 s: each stream is RESET, then GOAWAY': `
    OPEN 1, OPEN 3, drain update, wait 29999 -> ...
    wait 1 -> RESET 1 shutdown, RESET 3 shutdown, GOAWAY 0 shutdown 3, ends shutdown`,
  'R-LIVE-3: an open that is held back ends when the drain begins': `
    given peerLimits.streams=1
    open first, ACCEPT 2, open second -> OPEN 2 first
    drain update -> GOAWAY 0 shutdown
    second is told end shutdown`,
  'R-LIVE-3: a side that stops resets its streams first, opens none that was held back, and says GOAWAY': `
    given peerLimits.streams=2, holds=true
    open a, open b, open c, open d, OPEN 1 -> OPEN 2 a, OPEN 4 b
    leave -> REFUSE 1 shutdown, RESET 2 shutdown, RESET 4 shutdown, GOAWAY 0 shutdown 1, ends shutdown
    a is told end shutdown
    d is told end shutdown`,
  'R-LIVE-3: the place of a stream that a GOAWAY ends goes to no open that was held back': `
    given peerLimits.streams=2
    open a, open b, open c -> OPEN 2 a, OPEN 4 b
    GOAWAY 0 shutdown 2 -> nothing
    a is told nothing
    b is told end shutdown
    c is told end shutdown`,
  'R-CODE-1: a code that this version does not know is handed on as it is': `
    OPEN 1, RESET 1 moon-phase -> ACCEPT 1
    1 is told end moon-phase`,
});

test('R-CODE-4: any other GOAWAY ends the session at once and is not answered', (t) => {
  for (const code of ['flood', 'protocol-error', 'a-code-of-tomorrow']) {
    const peer = FramePeer.established();
    peer.sendOpen(1);
    peer.log.take();
    peer.send(GOAWAY, 0, { code, message: 'you \u001b[31m did it\n', last: 0 });
    t.is(peer.codes[0], code);
    t.is(peer.endings[0]?.message, 'you \\x1b[31m did it\\n');
    t.deepEqual(peer.sinks.get(1)?.events, [`end ${code}`]);
    t.deepEqual(peer.takeTexts(), []);
  }
});

test('R-CODE-2: a message is cut to 512 bytes when it is sent, and shown escaped when it comes', (t) => {
  const peer = FramePeer.established();
  for (const id of [1, 3, 5]) peer.sendOpen(id);
  peer.log.take();
  peer.streams.get(1)?.reset('local-error', 'ä'.repeat(1000));
  peer.streams.get(3)?.reset('local-error', '\u0001'.repeat(1000));
  peer.pump();
  const messages = peer.log
    .take()
    .map(({ payload }) => (JSON.parse(payload.toString()) as { message: string }).message);
  t.deepEqual(
    messages.map((message) => Buffer.byteLength(message)),
    [512, 512],
  );
  peer.send(RESET, 5, { code: 'denied', message: `\u001b]0;title\u0007${'y'.repeat(3000)}` });
  const { reason } = peer.sinks.get(5) as RecordingSink;
  t.regex(reason?.message ?? '', /^\\x1b\]0;title\\x07y+…$/);
  t.true((reason?.message.length ?? 0) < 600);
});

test('R-CODE-3: after an end that is no restart the side says why, and opens again', (t) => {
  const peer = FramePeer.established();
  peer.sendOpen(2);
  endedWith(t, peer, 'protocol-error');
  const hellos = peer.log.hellos.length;
  peer.advance(200);
  t.true(peer.log.hellos.length > hellos);
});
