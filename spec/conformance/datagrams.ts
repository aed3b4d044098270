/** Flows of datagrams, as docs/protocol.md has them: against frames written by hand. */
import test from 'ava';
import { MAX_DATAGRAM_BYTES } from '../../lib/codec/datagram-messages.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import type { VproxyError } from '../../lib/errors.js';
import { DatagramFlow } from '../../lib/forward/datagram/datagram-flow.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { endsWith, goesOn } from '../helpers/conversation.js';
import { jsonOf } from '../helpers/frame-log.js';
import { FramePeer, type FramePeerOptions } from '../helpers/frame-peer.js';
import { RecordingSink } from '../helpers/local-ends.js';

const { OPEN, ACCEPT, DATA, FIN, STOP, RESET } = FRAME_TYPE;
const REASON = { code: 'denied', message: 'no' };
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
    const found = new Flow((events) => DatagramFlow.attach(stream, events));
    found.flow.accept();
    return found;
  }

  onMessage(message: Buffer): void {
    this.messages.push(message);
  }

  onClosed(reason: VproxyError | null): void {
    this.codes.push(reason?.code ?? null);
  }

  onDropped(): void {
    // The counts say it.
  }

  get lengths(): number[] {
    return this.messages.map(({ length }) => length);
  }
}

function bytesOf(...messages: readonly Buffer[]): Buffer {
  return Buffer.concat(
    messages.flatMap((message) => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(message.length);
      return [length, message];
    }),
  );
}

interface Scene {
  readonly peer: FramePeer;
  readonly flow: Flow;
}

/** A peer that has opened flow 1 to this side, which takes it with `take`. */
function served(options: FramePeerOptions = {}, take = (stream: SessionStream) => Flow.attached(stream)): Scene {
  const peer = FramePeer.established({ ...DATAGRAMS, ...options });
  const flows: Flow[] = [];
  peer.onStream = (stream) => void flows.push(take(stream));
  peer.sendOpenFlow(1);
  peer.takeTexts();
  return { peer, flow: flows[0] as Flow };
}

/** One that this side has not answered. */
const unanswered = (): Scene => served({}, (stream) => new Flow((events) => DatagramFlow.attach(stream, events)));

/** A peer that has accepted flow 2 of this side. */
function opened(options: FramePeerOptions = {}): Scene {
  const peer = FramePeer.established({ ...DATAGRAMS, ...options });
  const flow = Flow.opened(peer);
  peer.pump();
  peer.send(ACCEPT, 2);
  peer.takeTexts();
  return { peer, flow };
}

/** The same, with messages that wait for credit. */
function waiting(count: number): Scene {
  const scene = opened({ peerLimits: { streamCredit: 1024 } });
  for (let sent = 0; sent < count; sent += 1) scene.flow.flow.send(Buffer.alloc(2000));
  return scene;
}

function sentOn(peer: FramePeer, streamId: number): Buffer[] {
  const bytes = Buffer.concat(
    peer.log.take().flatMap(({ type, streamId: id, payload }) => (type === DATA && id === streamId ? [payload] : [])),
  );
  const messages: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 2 + bytes.readUInt16BE(at);
    messages.push(bytes.subarray(at + 2, end));
    at = end;
  }
  return messages;
}

test('R-DGRAM-1: HELLO says that there may be flows, and they are opened where the other one says so, too', (t) => {
  const peer = FramePeer.established(DATAGRAMS);
  t.true(peer.log.hellos.every(({ features }) => features.includes('datagram')));
  Flow.opened(peer);
  peer.pump();
  const [open] = peer.log.take();
  t.is(open?.type, OPEN);
  t.deepEqual(open && jsonOf(open), { service: 'far', datagram: true });

  const without = FramePeer.established();
  t.false(without.session.hasDatagrams);
  t.throws(() => Flow.opened(without), { code: 'unknown-service', message: 'the peer has no datagrams' });
  without.pump();
  t.deepEqual(without.takeTexts(), []);
});

test('R-DGRAM-2: the field of OPEN makes a flow, and nothing else does', (t) => {
  for (const datagram of [true, false, null, undefined]) {
    const peer = goesOn(t, (one) => one.send(OPEN, 1, { service: 'echo', datagram }), DATAGRAMS);
    t.is(peer.streams.get(1)?.isDatagram, datagram === true);
  }
  for (const datagram of [1, 'true', {}])
    endsWith(t, 'protocol-error', (peer) => peer.send(OPEN, 1, { service: 'echo', datagram }), DATAGRAMS);
});

test('R-DGRAM-2: a flow in a session without flows is a protocol error', (t) => {
  endsWith(t, 'protocol-error', (peer) => peer.sendOpenFlow(1));
});

test('R-DGRAM-2: a service is opened as what it takes', (t) => {
  const peer = FramePeer.established(DATAGRAMS);
  const registry = new ServiceRegistry();
  const why: string[] = [];
  for (const takes of ['streams', 'datagrams', 'both'] as const) {
    registry.add(
      takes,
      (stream) => {
        stream.attach(new RecordingSink());
        stream.accept();
      },
      takes,
    );
  }
  peer.session.removeAllListeners('stream');
  peer.session.on('stream', (stream) => registry.serve(stream, peer.session));
  let id = 1;
  for (const service of ['streams', 'datagrams', 'both']) {
    peer.sendOpen(id, service);
    peer.sendOpenFlow(id + 2, service);
    id += 4;
  }
  for (const frame of peer.log.frames) if (frame.name === 'REFUSE') why.push(String(jsonOf(frame)['message']));
  t.deepEqual(peer.takeTexts(), [
    'ACCEPT 1',
    'REFUSE 3 unknown-service',
    'REFUSE 5 unknown-service',
    'ACCEPT 7',
    'ACCEPT 9',
    'ACCEPT 11',
  ]);
  t.deepEqual(why, ['service streams takes streams, not datagrams', 'service datagrams takes datagrams, not streams']);
});

test('R-DGRAM-3: messages of 0 to 65,507 bytes arrive whole and in order, however DATA is cut', (t) => {
  const sizes = [0, 1, 2, 1023, 1024, 65_506, MAX_DATAGRAM_BYTES, 0];
  const bytes = bytesOf(...sizes.map((size) => Buffer.alloc(size, size)));
  for (const pieceBytes of [1000, 4096, 65_536]) {
    const { peer, flow } = served();
    for (let at = 0; at < bytes.length; at += pieceBytes) peer.sendData(1, bytes.subarray(at, at + pieceBytes));
    t.deepEqual(flow.lengths, sizes);
    t.true(flow.messages.every((message) => message.every((byte) => byte === message.length % 256)));
    t.is(flow.flow.received, sizes.length);
  }
});

test('R-DGRAM-3: what this side sends has its length before it', (t) => {
  const { peer, flow } = opened({ peerLimits: { streamCredit: 2 ** 20 } });
  for (const size of [0, 1, 300, MAX_DATAGRAM_BYTES]) flow.flow.send(Buffer.alloc(size, 7));
  flow.flow.send(Buffer.alloc(MAX_DATAGRAM_BYTES + 1));
  peer.pump();
  t.deepEqual(
    sentOn(peer, 2).map(({ length }) => length),
    [0, 1, 300, MAX_DATAGRAM_BYTES],
  );
  t.is(flow.flow.sent, 4);
  t.is(flow.flow.sendDropped, 1);
});

test('R-DGRAM-3: a length that no message has, and a FIN within one, reset the flow and nothing else', (t) => {
  const wrong = (act: (peer: FramePeer) => void): void => {
    const { peer, flow } = served();
    act(peer);
    t.deepEqual(peer.takeTexts(), ['RESET 1 protocol-error']);
    t.deepEqual(flow.codes, ['protocol-error']);
    t.deepEqual(peer.endings, []);
    // What is on the way still is nothing.
    peer.sendData(1, bytesOf(Buffer.from('late')));
    t.deepEqual(flow.messages, []);
    t.is(peer.session.streams.datagramBudget.usedBytes, 0);
  };
  wrong((peer) => peer.sendData(1, Buffer.from([0xff, 0xe4])));
  wrong((peer) => peer.sendData(1, Buffer.concat([Buffer.from([0xff, 0xff]), Buffer.alloc(70_000 - 10_000)])));
  for (const part of ['00', '0005', '00056869'])
    wrong((peer) => {
      peer.sendData(1, Buffer.from(part, 'hex'));
      peer.send(FIN, 1);
    });
});

test('R-DGRAM-4: the bytes of a message leave at once, and the window stays small', (t) => {
  const { peer, flow } = served({ limits: { streamCredit: 1024 } });
  const bytes = bytesOf(Buffer.alloc(MAX_DATAGRAM_BYTES, 1));
  for (let at = 0; at < bytes.length; at += 512) peer.sendData(1, bytes.subarray(at, at + 512));
  t.deepEqual(flow.lengths, [MAX_DATAGRAM_BYTES]);
  const credits = peer.takeTexts().flatMap((text) => /^CREDIT 1 (\d+)$/.exec(text)?.[1] ?? []);
  t.true(credits.length > 50);
  t.is(Number(credits.at(-1)) - bytes.length <= 1024, true);
});

test('R-DGRAM-4: of messages that have not come whole no more is kept than the bound', (t) => {
  const { peer, flow } = served();
  const count = 400;
  const flows: Flow[] = [];
  peer.onStream = (stream) => void flows.push(Flow.attached(stream));
  const begin = Buffer.concat([Buffer.from([0xff, 0xe3]), Buffer.alloc(100)]);
  for (let index = 0; index < count; index += 1) {
    peer.sendOpenFlow(3 + 2 * index);
    peer.sendData(3 + 2 * index, begin);
  }
  const { datagramBudget } = peer.session.streams;
  t.is(datagramBudget.usedBytes, Math.floor(datagramBudget.limitBytes / MAX_DATAGRAM_BYTES) * MAX_DATAGRAM_BYTES);
  // Whole ones pass, and so does what is left of those that had no room.
  peer.sendData(1, bytesOf(Buffer.from('whole')));
  t.is(flow.flow.received, 1);
  const last = 3 + 2 * (count - 1);
  peer.sendData(last, Buffer.alloc(MAX_DATAGRAM_BYTES - 100));
  peer.sendData(last, bytesOf(Buffer.from('next')));
  t.deepEqual(flows.at(-1)?.messages, [Buffer.from('next')]);
  t.is(flows.at(-1)?.flow.receiveDropped, 1);
});

for (const [what, sizes, from] of [
  ['64 messages', Array.from({ length: 200 }, () => 10), 136],
  ['262,144 bytes', [...Array.from({ length: 10 }, () => 60_000), 10], 6],
] as const) {
  test(`R-DGRAM-5: while the flow has something unsent the newest ${what} wait, and the oldest are dropped`, (t) => {
    const { peer, flow } = opened({ peerLimits: { streamCredit: 1024 } });
    flow.flow.send(Buffer.alloc(2000, 255));
    peer.pump();
    sizes.forEach((size, index) => flow.flow.send(Buffer.alloc(size, index)));
    peer.sendCredit(2, 2 ** 30);
    const [first, ...rest] = sentOn(peer, 2);
    t.is(first?.length, 2000);
    const waited = [...sizes.keys()].slice(from);
    t.deepEqual(
      rest.map((message) => message[0]),
      waited,
    );
    t.deepEqual([flow.flow.sent, flow.flow.sendDropped], [1 + waited.length, from]);
  });
}

test('R-DGRAM-5: all flows together have one turn among the streams, and none before those that are interactive', (t) => {
  const peer = FramePeer.established({ ...DATAGRAMS, peerLimits: { inFlight: 1024, streamCredit: 2 ** 20 } });
  const [keys, bulk] = ['keys', 'bulk'].map((service) => {
    const sink = new RecordingSink();
    return peer.session.open(service, null, sink);
  }) as [SessionStream, SessionStream];
  const flows = Array.from({ length: 10 }, () => Flow.opened(peer).flow);
  peer.pump();
  for (const { streamId } of peer.log.take()) peer.send(ACCEPT, streamId);
  const key = (): unknown => keys.send(Buffer.alloc(100), 16, 17, false);
  key();
  key();
  // This uses up the session's credit, and what comes then waits.
  bulk.send(Buffer.alloc(300_020), 16, 300_016, false);
  for (const flow of flows) for (let count = 0; count < 3; count += 1) flow.send(Buffer.alloc(500));
  key();
  peer.pump();
  peer.takeTexts();
  peer.sendCredit(0, 2 ** 20);
  const order = peer.log.take().flatMap(({ type, streamId }) => (type === DATA ? [streamId] : []));
  t.is(order.length, 1 + 10 + 30);
  t.is(order[0], keys.id);
  const turns = order.slice(1, 1 + 2 * 10);
  const fromFlows = turns.filter((id) => id !== bulk.id);
  // One of the stream, one of a flow, and so on; each flow in turn.
  t.is(fromFlows.length, 10, turns.join());
  t.is(new Set(fromFlows).size, 10, turns.join());
  t.true(
    turns.every((id, index) => index === 0 || (id === bulk.id) !== (turns[index - 1] === bulk.id)),
    turns.join(),
  );
});

test('R-DGRAM-5: a flow of small messages is not interactive', (t) => {
  const { peer, flow } = opened({ peerLimits: { streamCredit: 2 ** 20 } });
  const stream = peer.session.open('near', null, new RecordingSink());
  for (let count = 0; count < 10; count += 1) flow.flow.send(Buffer.alloc(20));
  t.is(flow.flow.sent, 10);
  t.false(stream.isBesideInteractive);
});

test('R-DGRAM-6: FIN of either side ends the flow both ways at once', (t) => {
  const first = opened();
  first.flow.flow.end();
  first.peer.pump();
  t.deepEqual(first.peer.takeTexts(), ['FIN 2']);
  first.peer.send(FIN, 2);
  t.deepEqual(first.flow.codes, [null]);

  const second = served();
  second.peer.send(FIN, 1);
  t.deepEqual(second.peer.takeTexts(), ['FIN 1']);
  t.deepEqual(second.flow.codes, [null]);
  second.flow.flow.send(Buffer.from('late'));
  t.is(second.flow.flow.sendDropped, 1);
});

for (const [what, scene, type, id, texts, code, dropped] of [
  ['FIN before messages that wait', () => waiting(5), FIN, 2, ['DATA 2 1024', 'RESET 2 cancelled'], 'cancelled', 5],
  ['STOP before messages that wait', () => waiting(1), STOP, 2, ['DATA 2 1024', 'RESET 2 denied'], 'denied', 1],
  ['STOP', served, STOP, 1, ['RESET 1 denied'], 'denied', 0],
  ['RESET', served, RESET, 1, [], 'denied', 0],
  ['STOP before the answer of this side', unanswered, STOP, 1, ['REFUSE 1 denied'], 'denied', 0],
] as const) {
  test(`R-DGRAM-6: ${what} ends a flow with ${code}`, (t) => {
    const { peer, flow } = scene();
    peer.send(type, id, type === FIN ? undefined : REASON);
    t.deepEqual(peer.takeTexts(), [...texts]);
    t.deepEqual(flow.codes, [code]);
    t.deepEqual([flow.flow.sent, flow.flow.sendDropped], [0, dropped]);
    t.is(peer.session.streams.datagramBudget.usedBytes, 0);
  });
}

test('R-DGRAM-6: STOP behind FIN of this side changes nothing, and before the answer of the peer it is a RESET', (t) => {
  const ended = opened();
  ended.flow.flow.end();
  ended.peer.send(STOP, 2, REASON);
  t.deepEqual(ended.peer.takeTexts(), ['FIN 2']);
  ended.peer.send(FIN, 2);
  t.deepEqual(ended.flow.codes, [null]);

  const peer = FramePeer.established(DATAGRAMS);
  const own = Flow.opened(peer);
  peer.send(STOP, 2, REASON);
  t.deepEqual(peer.takeTexts(), ['OPEN 2 far', 'RESET 2 denied']);
  t.deepEqual(own.codes, ['denied']);
  peer.send(ACCEPT, 2);
  t.deepEqual(peer.endings, []);
});

test('R-DGRAM-6: what an opener says before it ends a flow arrives, also where the answer takes its time', (t) => {
  const { peer, flow } = unanswered();
  peer.sendData(1, bytesOf(Buffer.from('only')));
  peer.send(FIN, 1);
  t.deepEqual(peer.takeTexts(), []);
  t.deepEqual(flow.messages.map(String), ['only']);
  flow.flow.accept();
  peer.pump();
  t.deepEqual(peer.takeTexts(), ['ACCEPT 1', 'FIN 1']);
  t.deepEqual(flow.codes, [null]);
});
