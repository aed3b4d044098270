import test from 'ava';
import type { SeenFrame } from '../../conformance/frame-log.js';
import { framesOf } from '../../conformance/frame-maker.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import type { Session } from '../../lib/session/session.js';
import { endedWith, goesOn } from '../helpers/conversation.js';
import { FramePeer, type FramePeerOptions } from '../helpers/frame-peer.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { SessionPair } from '../helpers/session-pair.js';

const { OPEN, PING } = FRAME_TYPE;

/** A peer that sends but does not read, on a channel that is already full. */
function deafPeer(options: FramePeerOptions = {}): FramePeer {
  const peer = FramePeer.established({ capacityBytes: 4096, peerLimits: { streamCredit: 2 ** 20 }, ...options });
  peer.sendOpen(1);
  peer.isReading = false;
  peer.sendFrom(1, 2 ** 18);
  return peer;
}

/** Repeats an action until the session ends, at most `times`; returns the number of repetitions. */
function repeatUntilEnd(peer: FramePeer, times: number, act: (turn: number) => void): number {
  let turn = 0;
  for (; turn < times && peer.endings.length === 0; turn += 1) act(turn);
  return turn;
}

function readAgain(peer: FramePeer): SeenFrame[] {
  peer.log.take();
  peer.isReading = true;
  peer.pump();
  return peer.log.take();
}

test('R-FLOW-6: while the channel is full only the newest PONG waits, and the newest CREDIT per stream', (t) => {
  const peer = deafPeer({ limits: { streamCredit: 4096, inFlight: 2 ** 20 } });
  (peer.sinks.get(1) as RecordingSink).releases = peer.streams.get(1) ?? null;
  for (let turn = 0; turn < 500; turn += 1) peer.say('DATA 1 2048');
  for (let turn = 0; turn < 10_000; turn += 1) peer.send(PING, 0, Buffer.from(String(turn).padStart(8, '0')));
  t.deepEqual(peer.endings, []);
  const frames = readAgain(peer).filter(({ name }) => name !== 'DATA' && name !== 'PING');
  t.deepEqual(frames.map(({ name, streamId }) => `${name} ${streamId}`).sort(), ['CREDIT 0', 'CREDIT 1', 'PONG 0']);
  t.is(String(frames.find(({ name }) => name === 'PONG')?.payload), '00009999');
});

for (const [what, options, resets, most] of [
  ['opens streams and reads no refusal', { limits: { streams: 10 } }, false, 1024 + 4 * 11 + 1],
  ['opens, is accepted, resets, and reads nothing', {}, true, 1100],
] as const) {
  test(`R-FLOW-6: a peer that ${what} is a flood`, (t) => {
    const peer = deafPeer(options);
    const opened = repeatUntilEnd(peer, 10_000, (turn) => {
      peer.sendOpen(3 + 2 * turn);
      if (resets) peer.say(`RESET ${3 + 2 * turn}`);
    });
    t.true(opened > 1024 && opened <= most, `${opened}`);
    peer.isReading = true;
    peer.pump();
    endedWith(t, peer, 'flood');
  });
}

test('R-FLOW-6: open streams may each have their frames queued, which is not a flood', (t) => {
  const peer = deafPeer({ limits: { streams: 1024, opens: 1024 } });
  for (let id = 3; id < 2 * 1000; id += 2) {
    peer.sendOpen(id, 'echo');
    peer.streams.get(id)?.finish();
    peer.streams.get(id)?.stop('local-error', '');
  }
  t.deepEqual([peer.endings, peer.session.streams.size], [[], 1000]);
});

test('R-FLOW-6: more than 200 streams per second opened and reset before an answer are a flood', (t) => {
  const peer = FramePeer.established();
  peer.onStream = () => undefined;
  let id = -1;
  const openAndReset = (): void => {
    id += 2;
    peer.write(Buffer.concat(framesOf(`OPEN ${id}, RESET ${id}`).map((frame) => peer.frame(...frame))));
  };
  t.is(repeatUntilEnd(peer, 1000, openAndReset), 1000);
  peer.advance(1000);
  t.is(repeatUntilEnd(peer, 200, openAndReset), 200);
  t.deepEqual(peer.endings, []);
  openAndReset();
  endedWith(t, peer, 'flood');
});

/** The program of this side opens streams, and retracts them at once. */
function openAndReset(session: Session, count: number): void {
  for (let turn = 0; turn < count; turn += 1) session.open('echo', null, new RecordingSink()).reset('cancelled', '');
}

test('R-FLOW-6: opens that this side retracts keep their slots, except 300 at once, and 150 per second while the peer is heard', (t) => {
  const peer = FramePeer.established({ peerLimits: { opens: 100 } });
  const announced = (): number => {
    openAndReset(peer.session, 1000);
    peer.pump();
    return peer.log.take().filter(({ type }) => type === OPEN).length;
  };
  t.is(announced(), 400);
  peer.advance(60_000);
  t.is(announced(), 0, 'nothing was heard');
  peer.say('PONG');
  t.is(announced(), 300, 'a burst');
  peer.advance(1000);
  peer.say('PONG');
  t.is(announced(), 150);
  t.deepEqual(peer.endings, []);
});

test('R-FLOW-6: a storm of retracted opens is not a flood to a peer that stood still', (t) => {
  const pair = new SessionPair();
  let announced = 0;
  pair.b.onSession = (session) =>
    (session.server = {
      serve: (stream) => {
        announced += 1;
        stream.attach(new RecordingSink());
      },
    });
  pair.establish();
  for (const isStalled of [true, false, true, false]) {
    for (const { outbound } of pair.sides) outbound.isStalled = isStalled;
    for (let turn = 0; turn < 2000; turn += 1) {
      openAndReset(pair.a.session, 1);
      pair.clock.advance(10);
      pair.step();
    }
  }
  pair.settle();
  t.deepEqual([...pair.a.endings, ...pair.b.endings], []);
  t.true(announced > 1000, `${announced}`);
  const before = announced;
  pair.a.session.open('echo', null, new RecordingSink());
  for (let tenths = 0; tenths < 5; tenths += 1) {
    pair.clock.advance(100);
    pair.settle();
  }
  t.is(announced, before + 1, 'half a second later there is a place');
});

test('R-FLOW-6: streams reset after an answer are not a flood while the peer reads', (t) => {
  goesOn(t, (peer) => {
    for (let id = 1; id < 10_000; id += 2) peer.say(`OPEN ${id}, RESET ${id}`);
    peer.log.take();
  });
});

test('any number of CREDITs, unknown types and RESETs of ended streams queue nothing', (t) => {
  const peer = deafPeer();
  const before = peer.outbound.totalBytes;
  for (let turn = 0; turn < 5000; turn += 1) peer.say(`CREDIT ${turn % 2} ${turn}, 90 0 20`);
  t.deepEqual([peer.endings, peer.outbound.totalBytes], [[], before]);
});

test('R-FLOW-6: a side opens no streams while the channel is far behind, and opens them when it has caught up', (t) => {
  const peer = deafPeer({ peerLimits: { streams: 2 ** 20, opens: 65_536 } });
  const sinks = Array.from({ length: 3000 }, () => new RecordingSink());
  for (const sink of sinks) peer.session.open('far', null, sink);
  t.deepEqual(peer.endings, []);
  t.is(readAgain(peer).filter(({ type }) => type === OPEN).length, 3000);
  t.true(sinks.every((sink) => sink.events.length === 0));
});

test('R-FLOW-6: opens held back during a burst of answers go out when it is over', (t) => {
  const peer = FramePeer.established({ limits: { streams: 1 } });
  peer.onStream = () => undefined;
  peer.sendOpen(1);
  const refused = Array.from({ length: 600 }, (_, index) => `OPEN ${3 + 2 * index}`);
  // The last frame makes a program open a stream itself, while the 600 answers wait until reading is done.
  peer.session.once('services', () => peer.session.open('far', null, new RecordingSink()));
  const frames = framesOf([...refused, 'SERVICES'].join(', '));
  peer.write(Buffer.concat(frames.map((frame) => peer.frame(...frame))));
  t.is(peer.takeTexts().at(-1), 'OPEN 2 far');
});

test('a peer paused for a day, with opens that time out meanwhile, is not a flood', (t) => {
  const peer = deafPeer();
  for (let minutes = 0; minutes < 24 * 60; minutes += 1) {
    peer.session.open('far', null, new RecordingSink());
    peer.clock.advance(60_000);
  }
  readAgain(peer);
  t.deepEqual([peer.endings, peer.session.streams.size], [[], 1]);
});

test('while the peer is paused only the newest list of services waits', (t) => {
  const peer = deafPeer();
  peer.pump();
  for (let turn = 0; turn < 5000; turn += 1) peer.session.setServices(turn % 2 === 0 ? ['a'] : ['a', `s${turn}`]);
  t.deepEqual(peer.endings, []);
  const lists = readAgain(peer).filter(({ name }) => name === 'SERVICES');
  t.is(lists.map(({ payload }) => payload.toString()).join(), '{"services":["a","s4999"]}');
});
