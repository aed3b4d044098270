/** Flows of datagrams as specified in docs/protocol.md, against frames written by hand. */
import test from 'ava';
import { jsonOf } from '../../conformance/frame-log.js';
import { MAX_DATAGRAM_BYTES } from '../../lib/codec/datagram-messages.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import type { VproxyError } from '../../lib/errors.js';
import { DatagramFlow } from '../../lib/forward/datagram/datagram-flow.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { FramePeer, type FramePeerOptions } from '../helpers/frame-peer.js';
import { RecordingSink } from '../helpers/local-ends.js';

const { DATA } = FRAME_TYPE;
const DATAGRAMS: FramePeerOptions = { features: ['datagram'] };

class Flow {
  readonly messages: Buffer[] = [];
  /** How it ended; null: in order. */
  readonly codes: (string | null)[] = [];
  readonly flow: DatagramFlow;

  constructor(make: (flow: Flow) => DatagramFlow) {
    this.flow = make(this);
  }

  static opened({ session }: FramePeer, service = 'far'): Flow {
    return new Flow((events) => DatagramFlow.open(session, service, null, events));
  }

  static attached(stream: SessionStream): Flow {
    return new Flow((events) => DatagramFlow.attach(stream, events));
  }

  onMessage(message: Buffer): void {
    this.messages.push(message);
  }

  onClosed(reason: VproxyError | null): void {
    this.codes.push(reason?.code ?? null);
  }

  onDropped(): void {
    // The counts show it.
  }

  send(...sizes: readonly number[]): void {
    for (const [index, size] of sizes.entries()) this.flow.send(Buffer.alloc(size, index));
  }

  get counts(): readonly number[] {
    const { sent, sendDropped, received, receiveDropped } = this.flow;
    return [sent, sendDropped, received, receiveDropped];
  }
}

/** Messages as sent, each preceded by its length. */
const framed = (...messages: readonly (Buffer | string)[]): Buffer =>
  Buffer.concat(
    messages.flatMap((message) => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(message.length);
      return [length, Buffer.from(message)];
    }),
  );

interface Scene {
  readonly peer: FramePeer;
  readonly flow: Flow;
}

/** A peer that has opened flow 1 to this side, which attaches a local end, and accepts it if `answers`. */
function served(options: FramePeerOptions = {}, answers = true): Scene {
  const peer = FramePeer.established({ ...DATAGRAMS, ...options });
  const flows: Flow[] = [];
  peer.onStream = (stream) => {
    const flow = Flow.attached(stream);
    flows.push(flow);
    if (answers) flow.flow.accept();
  };
  peer.say('OPEN 1 echo datagram');
  peer.takeTexts();
  return { peer, flow: flows[0] as Flow };
}

const unanswered = (): Scene => served({}, false);

/** A peer that has accepted flow 2 of this side. */
function opened(options: FramePeerOptions = {}): Scene {
  const peer = FramePeer.established({ ...DATAGRAMS, ...options });
  const flow = Flow.opened(peer);
  peer.pump();
  peer.say('ACCEPT 2');
  peer.takeTexts();
  return { peer, flow };
}

/** The same, with messages that wait for credit. */
function waiting(count: number): Scene {
  const scene = opened({ peerLimits: { streamCredit: 1024 } });
  scene.flow.send(...Array.from({ length: count }, () => 2000));
  return scene;
}

/** The messages that were sent on flow 2. */
function sentBy(peer: FramePeer): Buffer[] {
  const bytes = Buffer.concat(
    peer.log.take().flatMap(({ type, streamId, payload }) => (type === DATA && streamId === 2 ? [payload] : [])),
  );
  const messages: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 2 + bytes.readUInt16BE(at);
    messages.push(bytes.subarray(at + 2, end));
    at = end;
  }
  return messages;
}

const lengthsOf = (messages: readonly Buffer[]): number[] => messages.map(({ length }) => length);

test('R-DGRAM-1: HELLO announces support for flows, and they are opened if both sides announce it', (t) => {
  const peer = FramePeer.established(DATAGRAMS);
  t.true(peer.log.hellos.every(({ features }) => features.includes('datagram')));
  Flow.opened(peer);
  peer.pump();
  t.deepEqual(peer.log.take().map(jsonOf), [{ service: 'far', datagram: true }]);

  const without = FramePeer.established();
  t.false(without.session.hasDatagrams);
  t.throws(() => Flow.opened(without), { code: 'unknown-service', message: 'the peer does not support datagrams' });
  without.pump();
  t.deepEqual(without.takeTexts(), []);
});

test('R-DGRAM-3: messages of 0 to 65,507 bytes arrive whole and in order, however DATA is cut', (t) => {
  const sizes = [0, 1, 2, 1023, 1024, 65_506, MAX_DATAGRAM_BYTES, 0];
  const bytes = framed(...sizes.map((size) => Buffer.alloc(size, size)));
  for (const pieceBytes of [1000, 4096, 65_536]) {
    const { peer, flow } = served();
    for (let at = 0; at < bytes.length; at += pieceBytes) peer.sendData(1, bytes.subarray(at, at + pieceBytes));
    t.deepEqual([lengthsOf(flow.messages), flow.flow.received], [sizes, sizes.length]);
    t.true(flow.messages.every((message) => message.every((byte) => byte === message.length % 256)));
  }
});

test('R-DGRAM-3: messages sent by this side are preceded by their length', (t) => {
  const { peer, flow } = opened({ peerLimits: { streamCredit: 2 ** 20 } });
  flow.send(0, 1, 300, MAX_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES + 1);
  peer.pump();
  t.deepEqual(lengthsOf(sentBy(peer)), [0, 1, 300, MAX_DATAGRAM_BYTES]);
  t.deepEqual(flow.counts, [4, 1, 0, 0]);
});

test('R-DGRAM-4: the bytes of a message leave at once, and the window stays small', (t) => {
  const { peer, flow } = served({ limits: { streamCredit: 1024 } });
  const bytes = framed(Buffer.alloc(MAX_DATAGRAM_BYTES, 1));
  for (let at = 0; at < bytes.length; at += 512) peer.sendData(1, bytes.subarray(at, at + 512));
  t.deepEqual(lengthsOf(flow.messages), [MAX_DATAGRAM_BYTES]);
  const credits = peer.takeTexts().flatMap((text) => /^CREDIT 1 (\d+)$/.exec(text)?.[1] ?? []);
  t.true(credits.length > 50 && Number(credits.at(-1)) - bytes.length <= 1024);
});

test('R-DGRAM-4: incomplete messages are kept only within the bound', (t) => {
  const { peer, flow } = served();
  const flows: Flow[] = [];
  peer.onStream = (stream) => {
    const one = Flow.attached(stream);
    flows.push(one);
    one.flow.accept();
  };
  const begin = Buffer.concat([Buffer.from([0xff, 0xe3]), Buffer.alloc(100)]);
  const last = 801;
  for (let id = 3; id <= last; id += 2) {
    peer.sendOpenFlow(id);
    peer.sendData(id, begin);
  }
  const { usedBytes, limitBytes } = peer.session.streams.datagramBudget;
  t.is(usedBytes, Math.floor(limitBytes / MAX_DATAGRAM_BYTES) * MAX_DATAGRAM_BYTES);
  // Complete messages pass, and so does the rest of those that had no room.
  peer.sendData(1, framed('whole'));
  t.is(flow.flow.received, 1);
  peer.sendData(last, Buffer.alloc(MAX_DATAGRAM_BYTES - 100));
  peer.sendData(last, framed('next'));
  t.deepEqual([flows.at(-1)?.messages.map(String), flows.at(-1)?.counts], [['next'], [0, 0, 1, 1]]);
});

for (const [what, sizes, from] of [
  ['69 of 60,000 bytes', [...Array.from({ length: 72 }, () => 60_000), 10], 3],
  ['14,563 of 10 bytes', Array.from({ length: 14_923 }, () => 10), 360],
] as const) {
  test(`R-DGRAM-5: while the flow has unsent bytes the newest messages wait, ${what}, and the oldest are dropped`, (t) => {
    const { peer, flow } = opened({ peerLimits: { streamCredit: 1024, inFlight: 2 ** 23 } });
    flow.send(2000);
    peer.pump();
    flow.send(...sizes);
    peer.sendCredit(2, 2 ** 30);
    const [first, ...rest] = sentBy(peer);
    const waited = [...sizes.keys()].slice(from).map((index) => index & 0xff);
    t.deepEqual([first?.length, ...rest.map((message) => message[0])], [2000, ...waited]);
    t.deepEqual(flow.counts, [1 + waited.length, from, 0, 0]);
  });
}

test('R-DGRAM-5: all flows together have one turn among the streams, after the interactive ones', (t) => {
  const peer = FramePeer.established({ ...DATAGRAMS, peerLimits: { inFlight: 1024, streamCredit: 2 ** 20 } });
  const [keys, bulk] = ['keys', 'bulk'].map((service) => peer.session.open(service, null, new RecordingSink())) as [
    SessionStream,
    SessionStream,
  ];
  const flows = Array.from({ length: 10 }, () => Flow.opened(peer));
  peer.pump();
  for (const { streamId } of peer.log.take()) peer.say(`ACCEPT ${streamId}`);
  const key = (): unknown => keys.send(Buffer.alloc(100), 16, 17, false);
  key();
  key();
  // This uses up the session's credit, so that later messages wait.
  bulk.send(Buffer.alloc(300_020), 16, 300_016, false);
  for (const flow of flows) flow.send(500, 500, 500);
  key();
  peer.pump();
  peer.takeTexts();
  peer.sendCredit(0, 2 ** 20);
  const [first, ...order] = peer.log.take().flatMap(({ type, streamId }) => (type === DATA ? [streamId] : []));
  t.deepEqual([first, order.length], [keys.id, 10 + 30]);
  // One of the stream, one of a flow, and so on; each flow in turn.
  const turns = order.slice(0, 2 * 10);
  t.is(new Set(turns.filter((id) => id !== bulk.id)).size, 10, turns.join());
  t.true(turns.every((id, index) => index === 0 || (id === bulk.id) !== (turns[index - 1] === bulk.id)));
});

test('R-DGRAM-5: a flow of small messages is not interactive', (t) => {
  const { peer, flow } = opened({ peerLimits: { streamCredit: 2 ** 20 } });
  const stream = peer.session.open('near', null, new RecordingSink());
  flow.send(...Array.from({ length: 10 }, () => 20));
  t.deepEqual([flow.flow.sent, stream.isBesideInteractive], [10, false]);
});

test('R-DGRAM-6: FIN of either side ends the flow both ways at once; a later STOP changes nothing', (t) => {
  const own = opened();
  own.flow.flow.end();
  own.peer.say('STOP 2');
  t.deepEqual(own.peer.takeTexts(), ['FIN 2']);
  own.peer.say('FIN 2');
  t.deepEqual(own.flow.codes, [null]);

  const { peer, flow } = served();
  peer.say('FIN 1');
  flow.send(4);
  t.deepEqual([peer.takeTexts(), flow.codes, flow.counts], [['FIN 1'], [null], [0, 1, 0, 0]]);
});

/** A flow of this side that the peer has not answered. */
function asked(): Scene {
  const peer = FramePeer.established(DATAGRAMS);
  return { peer, flow: Flow.opened(peer) };
}

for (const [what, scene, frame, texts, code, dropped] of [
  ['FIN before messages that wait', () => waiting(5), 'FIN 2', ['DATA 2 1024', 'RESET 2 cancelled'], 'cancelled', 5],
  ['STOP before messages that wait', () => waiting(1), 'STOP 2', ['DATA 2 1024', 'RESET 2 denied'], 'denied', 1],
  ['STOP', served, 'STOP 1', ['RESET 1 denied'], 'denied', 0],
  ['RESET', served, 'RESET 1', [], 'denied', 0],
  ['STOP before the answer of this side', unanswered, 'STOP 1', ['REFUSE 1 denied'], 'denied', 0],
  ['STOP before the answer of the peer', asked, 'STOP 2', ['OPEN 2 far', 'RESET 2 denied'], 'denied', 0],
] as const) {
  test(`R-DGRAM-6: ${what} ends a flow with ${code}`, (t) => {
    const { peer, flow } = scene();
    peer.say(frame);
    t.deepEqual([peer.takeTexts(), flow.codes, flow.counts], [[...texts], [code], [0, dropped, 0, 0]]);
    t.is(peer.session.streams.datagramBudget.usedBytes, 0);
  });
}

test('R-DGRAM-6: messages sent by an opener before it ends the flow arrive, even if the answer is late', (t) => {
  const { peer, flow } = unanswered();
  peer.sendData(1, framed('only'));
  peer.say('FIN 1');
  t.deepEqual([peer.takeTexts(), flow.messages.map(String)], [[], ['only']]);
  flow.flow.accept();
  peer.pump();
  t.deepEqual([peer.takeTexts(), flow.codes], [['ACCEPT 1', 'FIN 1'], [null]]);
});
