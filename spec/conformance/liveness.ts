import test from 'ava';
import { FRAME_TYPE, INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { conversations, endsWith, goesOn } from '../helpers/conversation.js';
import { jsonOf } from '../helpers/frame-log.js';
import { FramePeer } from '../helpers/frame-peer.js';

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

for (const integrity of INTEGRITY_LEVELS) {
  for (const lost of [1, 23, 24, 25, 4000]) {
    test(`R-LIVE-4: a frame that lost ${lost} bytes and is followed by nothing is detected within 5 s, with integrity ${integrity}`, (t) => {
      for (const pieceBytes of [1, 5, 1000]) {
        const act = (peer: FramePeer): void => {
          peer.sendOpen(1);
          const frame = peer.frame(DATA, 1, Buffer.alloc(10_000, 'x'));
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

conversations({
  'R-LIVE-2: a week of silence ends no session if the peer may be paused': `
    OPEN 1, wait 604800000 -> ...
    DATA 1 still -> nothing
    1 is told data`,
  'R-LIVE-2: 30 s of silence end a session if so configured, without a GOAWAY': `
    given settings.deadAfterMs=30000
    wait 29000 -> PING 0, PING 0, PING 0
    PONG 0, wait 29000 -> ...
    wait 10000 -> nothing, ends channel-silent`,
  'R-LIVE-2: a clock that jumped tells nothing about the peer: the wait starts over': `
    given settings.deadAfterMs=30000
    jump 3600000, wait 10000 -> ...
    wait 30000 -> ..., ends channel-silent`,
  'R-LIVE-3: after GOAWAY shutdown by the peer no stream is opened either way, and the open ones continue': `
    open far, open early, ACCEPT 2, OPEN 1 -> OPEN 2 far, OPEN 4 early, ACCEPT 1
    GOAWAY 0 shutdown 2 -> nothing
    early is told end shutdown
    open more -> cannot open: shutdown
    OPEN 3 -> REFUSE 3 shutdown
    DATA 1 still, FIN 1, finish 1 -> FIN 1
    1 is told data, fin, end
    RESET 2 cancelled -> nothing, ends shutdown`,
  'R-LIVE-3: a GOAWAY shutdown ends the session at once if no stream is open, else after 30 s': [
    'GOAWAY 0 shutdown -> nothing, ends shutdown',
    `OPEN 1, GOAWAY 0 shutdown, wait 29999 -> ...
     wait 1 -> RESET 1 shutdown, GOAWAY 0 shutdown 1, ends shutdown
     1 is told end shutdown`,
  ],
  'R-LIVE-4: the loss of a whole frame is detected by the PING that follows': `
    OPEN 1, wait 10000 -> ...
    send 1 x, wait 2500 -> DATA 1 1, PING 0
    wait 7500 -> nothing`,
  'R-LIVE-3: a side that drains sends GOAWAY with the highest id that it serves, and leaves with its last stream': `
    OPEN 7, drain update, drain again -> ACCEPT 7, GOAWAY 0 shutdown 7
    OPEN 9 -> REFUSE 9 shutdown
    FIN 7, finish 7 -> FIN 7, ends shutdown`,
  'R-LIVE-3: a drain times out after 30 s: RESET for each stream, then GOAWAY': `
    OPEN 1, OPEN 3, drain update, wait 29999 -> ...
    wait 1 -> RESET 1 shutdown, RESET 3 shutdown, GOAWAY 0 shutdown 3, ends shutdown`,
  'R-LIVE-3: a held-back open ends when the drain begins': `
    given peerLimits.streams=1
    open first, ACCEPT 2, open second -> OPEN 2 first
    drain update -> GOAWAY 0 shutdown
    second is told end shutdown`,
  'R-LIVE-3: a side that stops resets its streams first, opens no held-back one, and sends GOAWAY': `
    given peerLimits.streams=2, holds=true
    open a, open b, open c, open d, OPEN 1 -> OPEN 2 a, OPEN 4 b
    leave -> REFUSE 1 shutdown, RESET 2 shutdown, RESET 4 shutdown, GOAWAY 0 shutdown 1, ends shutdown
    a is told end shutdown
    d is told end shutdown`,
  'R-LIVE-3: the slot of a stream ended by GOAWAY does not go to a held-back open': `
    given peerLimits.streams=2
    open a, open b, open c -> OPEN 2 a, OPEN 4 b
    GOAWAY 0 shutdown 2 -> nothing
    a is told nothing
    b is told end shutdown
    c is told end shutdown`,
  'R-CODE-1: an unknown code is handed on as is': `
    OPEN 1, RESET 1 moon-phase -> ACCEPT 1
    1 is told end moon-phase`,
});

test('R-CODE-4: any other GOAWAY ends the session at once and is not answered', (t) => {
  for (const code of ['flood', 'protocol-error', 'a-code-of-tomorrow']) {
    const peer = FramePeer.established();
    peer.sendOpen(1);
    peer.log.take();
    peer.send(GOAWAY, 0, { code, message: 'you \u001b[31m did it\n', last: 0 });
    t.like(peer.endings, [{ code, message: 'you \\x1b[31m did it\\n' }]);
    t.deepEqual([peer.sinks.get(1)?.events, peer.takeTexts()], [[`end ${code}`], []]);
  }
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

// ---- stalls: time in which nothing was sent although something waited -----------------------------------------------------

const ids = Array.from({ length: 1000 }, (_, index) => 2 * index + 1);

conversations({
  'a peer that gives no more credit does not read: that is a stall': `
    given peerLimits.inFlight=65536
    OPEN 1, CREDIT 1 1099511627776, wait 5000 -> ...
    0 ms were stalls
    send 1 4194304, wait 999
    0 ms were stalls
    wait 1001
    2000 ms were stalls
    CREDIT 0 70000
    2000 ms were stalls
    wait 3000
    5000 ms were stalls
    CREDIT 0 1099511627776, wait 5000 -> ...
    5000 ms were stalls`,
  'a channel that takes nothing stalls until it has drained': `
    given capacityBytes=100000, peerLimits.inFlight=1073741824
    OPEN 1, CREDIT 1 1099511627776, deafen, send 1 4194304, wait 4000
    4000 ms were stalls
    read, wait 5000 -> ...
    4000 ms were stalls`,
  'waiting for a fully used channel is not a stall': `
    given peerLimits.inFlight=10000
    OPEN 1, CREDIT 1 1099511627776, send 1 4194304
    ${Array.from({ length: 28 }, (_, index) => `wait 900, CREDIT 0 ${10_000 * (index + 2)}`).join(', ')} -> ...
    0 ms were stalls`,
  'a stream that waits for its own credit is not a stall of the channel': `
    given peerLimits.streamCredit=2000
    OPEN 1, send 1 4194304, wait 3000 -> ...
    0 ms were stalls`,
  'control frames also stall on a channel that takes nothing, and only as long': `
    given capacityBytes=1
    ${ids.map((id) => `OPEN ${id}`).join(', ')}, deafen, ${ids.map((id) => `stop ${id}`).join(', ')}, wait 2000
    2000 ms were stalls
    read, wait 2000 -> ...
    2000 ms were stalls`,
});
