import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { IncomingForward } from '../../lib/forward/incoming.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { localServer } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { endedWith, endsWith, goesOn } from './ends-with.js';

const { OPEN, ACCEPT, REFUSE, DATA, CREDIT, FIN, STOP, RESET } = FRAME_TYPE;
const REASON = { code: 'denied', message: 'no' };

/** The side under test opens a stream; this peer's ids are odd, so it is number 2. */
function openTo(
  peer: FramePeer,
  service = 'far',
): { stream: ReturnType<typeof peer.session.open>; sink: RecordingSink } {
  const sink = new RecordingSink();
  const stream = peer.session.open(service, null, sink);
  peer.pump();
  return { stream, sink };
}

test('R-STREAM-1: an OPEN of the wrong parity is a protocol error', (t) => {
  endsWith(t, 'protocol-error', (peer) => peer.sendOpen(2));
  endsWith(t, 'protocol-error', (peer) => peer.sendOpen(1), { isOdd: false });
});

test('R-STREAM-1: ids rise, and need not be consecutive', (t) => {
  const peer = goesOn(t, (peer) => {
    for (const id of [1, 5, 4_000_000_001]) peer.sendOpen(id);
  });
  t.deepEqual(peer.takeTexts(), ['ACCEPT 1', 'ACCEPT 5', 'ACCEPT 4000000001']);
  for (const again of [5, 3]) {
    endsWith(t, 'protocol-error', (other) => {
      other.sendOpen(5);
      other.sendOpen(again);
    });
  }
});

test('R-STREAM-1: an id is not used again when its stream has ended', (t) => {
  endsWith(t, 'protocol-error', (peer) => {
    peer.sendOpen(1);
    peer.send(RESET, 1, REASON);
    peer.sendOpen(1);
  });
});

test('R-STREAM-2: only the side that was asked answers, and once', (t) => {
  for (const [type, payload] of [
    [ACCEPT, undefined],
    [REFUSE, REASON],
  ] as const) {
    endsWith(t, 'protocol-error', (peer) => {
      peer.sendOpen(1);
      peer.send(type, 1, payload);
    });
    endsWith(t, 'protocol-error', (peer) => {
      openTo(peer);
      peer.send(ACCEPT, 2);
      peer.send(type, 2, payload);
    });
  }
});

test('R-STREAM-2: DATA and FIN by the side that was asked come behind its ACCEPT', (t) => {
  for (const [type, payload] of [
    [DATA, Buffer.from('early')],
    [FIN, undefined],
  ] as const) {
    endsWith(t, 'protocol-error', (peer) => {
      openTo(peer);
      peer.send(type, 2, payload);
    });
  }
});

test('R-STREAM-2: CREDIT and STOP may come before ACCEPT', (t) => {
  goesOn(t, (peer) => {
    const { sink } = openTo(peer);
    peer.sendCredit(2, 100_000);
    peer.send(STOP, 2, REASON);
    peer.send(ACCEPT, 2);
    t.deepEqual(sink.events, ['stop denied', 'accept']);
  });
});

test('R-STREAM-2: what is sent on a stream before its answer waits behind ACCEPT', (t) => {
  const peer = FramePeer.established();
  peer.onStream = () => undefined;
  peer.sendOpen(1);
  const stream = peer.streams.get(1);
  stream?.send(Buffer.from('soon'), 0, 4, false);
  stream?.finish();
  peer.pump();
  t.deepEqual(peer.takeTexts(), []);
  stream?.accept();
  peer.pump();
  t.deepEqual(peer.takeTexts(), ['ACCEPT 1', 'DATA 1 4', 'FIN 1']);
  peer.send(FIN, 1);
  t.deepEqual(peer.sinks.get(1)?.events, ['sent', 'fin', 'end']);
});

test('R-STREAM-3: a service that is not offered, or that is no name, is refused with unknown-service', (t) => {
  const peer = FramePeer.established();
  const names = ['', 'Echo', '-a', 'a b', 'x'.repeat(65), '../etc', 'ä', '\u001b[31m'];
  for (const [index, name] of names.entries()) peer.sendOpen(2 * index + 1, name);
  const answers = peer.log.take();
  t.is(answers.length, names.length);
  for (const answer of answers) {
    t.regex(answer.payload.toString(), /unknown-service/);
    t.notRegex(answer.payload.toString(), /\\u001b/);
  }
  peer.session.removeAllListeners('stream');
  peer.sendOpen(101, 'nobody');
  t.deepEqual(peer.takeTexts(), ['REFUSE 101 unknown-service']);
  t.is(peer.session.streams.size, 0);
});

test('R-STREAM-4: an opener sends at once, and no more than 16 KiB before the answer, its FIN behind all DATA', (t) => {
  const peer = FramePeer.established();
  const { stream, sink } = openTo(peer);
  stream.send(Buffer.alloc(20_000, 1), 0, 20_000, false);
  stream.finish();
  peer.pump();
  t.deepEqual(peer.takeTexts(), ['OPEN 2 far', 'DATA 2 16384']);
  peer.send(ACCEPT, 2);
  t.deepEqual(peer.takeTexts(), ['DATA 2 3616', 'FIN 2']);
  t.deepEqual(sink.events, ['accept', 'sent']);
});

test('R-STREAM-5: opens beyond `streams` are refused, until a stream has ended', (t) => {
  const peer = FramePeer.established({ limits: { streams: 2 } });
  for (const id of [1, 3, 5]) peer.sendOpen(id);
  t.deepEqual(peer.takeTexts(), ['ACCEPT 1', 'ACCEPT 3', 'REFUSE 5 too-many-streams']);
  peer.send(RESET, 1, REASON);
  peer.sendOpen(7);
  t.deepEqual(peer.takeTexts(), ['ACCEPT 7']);
});

/** A side that takes two streams, and dials a server for each. */
async function dialling(t: ExecutionContext): Promise<{ peer: FramePeer; forward: IncomingForward }> {
  const { port } = await localServer(t, () => undefined);
  const peer = FramePeer.established({ limits: { streams: 2 } });
  const registry = new ServiceRegistry();
  const spec = parseForwardSpec('incoming', `echo:${port}`);
  const forward = new IncomingForward(spec, { registry, log: () => undefined, clock: peer.clock, maxStreams: 2 });
  t.teardown(() => forward.stop());
  await forward.start();
  peer.session.removeAllListeners('stream');
  peer.session.on('stream', (stream) => registry.serve(stream, peer.session));
  return { peer, forward };
}

test('R-STREAM-5: RESET frees a place for an OPEN in the same write, also where a socket has to be closed', async (t) => {
  const { peer, forward } = await dialling(t);
  const answers = async (count: number): Promise<string[]> => {
    const texts: string[] = [];
    await eventually(() => {
      peer.pump();
      texts.push(...peer.takeTexts());
      return texts.length >= count;
    });
    return texts.sort();
  };
  for (const id of [1, 3]) peer.sendOpen(id);
  t.deepEqual(await answers(2), ['ACCEPT 1', 'ACCEPT 3']);
  const resets = [1, 3].map((id) => peer.frame(RESET, id, REASON));
  const opens = [5, 7].map((id) => peer.frame(OPEN, id, { service: 'echo' }));
  peer.write(Buffer.concat([...resets, ...opens]));
  t.deepEqual(await answers(2), ['ACCEPT 5', 'ACCEPT 7']);
  await eventually(() => forward.openCount === 2);
});

test('R-STREAM-5: a peer that opens and resets without a pause has the sockets of `streams`, and of `opens` that are closing', async (t) => {
  const { peer, forward } = await dialling(t);
  for (let id = 1; id < 1000; id += 2) {
    peer.sendOpen(id);
    peer.send(RESET, id, REASON);
  }
  t.is(forward.openCount, 2 + 256);
  t.deepEqual(peer.takeTexts().slice(-1), ['REFUSE 999 too-many-streams']);
  await eventually(() => forward.openCount === 0);
});

test('R-STREAM-5: opens beyond `opens` are refused, until one is answered', (t) => {
  const peer = FramePeer.established({ limits: { opens: 2 } });
  peer.onStream = () => undefined;
  for (const id of [1, 3, 5]) peer.sendOpen(id);
  t.deepEqual(peer.takeTexts(), ['REFUSE 5 too-many-streams']);
  peer.streams.get(3)?.accept();
  peer.sendOpen(7);
  t.deepEqual(peer.takeTexts(), ['ACCEPT 3']);
  peer.sendOpen(9);
  t.deepEqual(peer.takeTexts(), ['REFUSE 9 too-many-streams']);
});

test('R-STREAM-5: a stream that ended keeps its place while its bytes still lie on this side', (t) => {
  const peer = FramePeer.established({ limits: { streams: 1 } });
  peer.sendOpen(1);
  peer.sendData(1, 'unread');
  peer.send(FIN, 1);
  peer.streams.get(1)?.finish();
  peer.pump();
  peer.sendOpen(3);
  t.deepEqual(peer.takeTexts(), ['ACCEPT 1', 'FIN 1', 'REFUSE 3 too-many-streams']);
  peer.streams.get(1)?.release(6);
  peer.sendOpen(5);
  t.deepEqual(peer.takeTexts(), ['ACCEPT 5']);
});

test('R-STREAM-5: this side holds its opens back within the bounds of its peer', (t) => {
  const peer = FramePeer.established({ peerLimits: { streams: 3, opens: 2 } });
  const sinks = Array.from({ length: 5 }, () => openTo(peer).sink);
  t.deepEqual(peer.takeTexts(), ['OPEN 2 far', 'OPEN 4 far']);
  peer.send(ACCEPT, 2);
  t.deepEqual(peer.takeTexts(), ['OPEN 6 far']);
  peer.send(ACCEPT, 4);
  t.deepEqual(peer.takeTexts(), []);
  peer.send(REFUSE, 6, REASON);
  t.deepEqual(peer.takeTexts(), ['OPEN 8 far']);
  peer.send(RESET, 2, REASON);
  t.deepEqual(peer.takeTexts(), ['OPEN 10 far']);
  t.deepEqual(sinks[2]?.events, ['end denied']);
});

test('a stream that is held back can be sent to, finished, stopped and given up', (t) => {
  const peer = FramePeer.established({ peerLimits: { streams: 1 } });
  openTo(peer, 'first');
  const second = openTo(peer, 'second');
  const third = openTo(peer, 'third');
  t.is(second.stream.id, 0);
  second.stream.send(Buffer.from('hello'), 0, 5, false);
  second.stream.finish();
  second.stream.stop('local-error', 'nobody reads');
  third.stream.reset('cancelled', 'given up');
  peer.pump();
  t.deepEqual(peer.takeTexts(), ['OPEN 2 first']);
  t.deepEqual(third.sink.events, ['end cancelled']);
  peer.send(REFUSE, 2, REASON);
  t.deepEqual(peer.takeTexts().sort(), ['DATA 4 5', 'FIN 4', 'OPEN 4 second', 'STOP 4 local-error']);
  t.deepEqual(peer.endings, []);
});

test('R-STREAM-7: each direction ends by itself, and nothing of it follows its FIN', (t) => {
  for (const type of [null, DATA, FIN]) {
    const act = (peer: FramePeer): void => {
      peer.sendOpen(1);
      peer.sendData(1, 'question');
      peer.send(FIN, 1);
      if (type !== null) peer.send(type, 1, type === DATA ? Buffer.from('more') : undefined);
      else {
        peer.sendFrom(1, 'answer');
        peer.streams.get(1)?.finish();
        peer.pump();
        t.deepEqual(peer.takeTexts(), ['ACCEPT 1', 'DATA 1 6', 'FIN 1']);
        t.deepEqual(peer.sinks.get(1)?.events, ['data', 'fin', 'end']);
        t.is(peer.session.streams.size, 0);
      }
    };
    if (type === null) goesOn(t, act);
    else endsWith(t, 'protocol-error', act);
  }
});

test('R-STREAM-8: RESET ends both directions and drops what waits', (t) => {
  const peer = FramePeer.established({ peerLimits: { streamCredit: 1024 } });
  peer.sendOpen(1);
  peer.sendFrom(1, 5000);
  peer.pump();
  peer.send(RESET, 1, REASON);
  t.deepEqual(peer.sinks.get(1)?.events, ['end denied']);
  peer.sendCredit(1, 10_000);
  t.deepEqual(peer.takeTexts(), ['ACCEPT 1', 'DATA 1 1024']);
});

test('R-STREAM-8: giving up an incoming stream before its answer is a REFUSE', (t) => {
  const peer = FramePeer.established();
  peer.onStream = (stream) => stream.reset('local-error', 'no socket');
  peer.sendOpen(1);
  t.deepEqual(peer.takeTexts(), ['REFUSE 1 local-error']);
});

test('R-STREAM-9: STOP is answered with FIN, and with RESET where the other direction has ended', (t) => {
  const peer = FramePeer.established({ peerLimits: { streamCredit: 1024 } });
  for (const id of [1, 3]) {
    peer.sendOpen(id);
    peer.sendFrom(id, 5000);
  }
  peer.send(FIN, 3);
  peer.log.take();
  peer.send(STOP, 1, REASON);
  peer.send(STOP, 1, REASON);
  peer.send(STOP, 3, REASON);
  t.deepEqual(peer.takeTexts(), ['FIN 1', 'RESET 3 denied']);
  t.deepEqual(peer.sinks.get(1)?.events, ['stop denied']);
  t.deepEqual(peer.sinks.get(3)?.events, ['fin', 'end denied']);
  t.is(peer.sendFrom(1, 'swallowed'), 0);
  peer.pump();
  t.deepEqual(peer.takeTexts(), []);
  peer.sendData(1, 'still read');
  peer.send(FIN, 1);
  t.deepEqual(peer.sinks.get(1)?.events, ['stop denied', 'data', 'fin', 'end']);
});

test('R-STREAM-9: the sender of STOP drops what still arrives, up to the FIN', (t) => {
  const peer = FramePeer.established();
  peer.sendOpen(1);
  const stream = peer.streams.get(1);
  stream?.stop('local-error', 'gone');
  stream?.stop('local-error', 'gone');
  peer.sendData(1, 'late');
  peer.send(FIN, 1);
  stream?.finish();
  peer.pump();
  t.deepEqual(peer.takeTexts(), ['ACCEPT 1', 'STOP 1 local-error', 'FIN 1']);
  t.deepEqual(peer.sinks.get(1)?.events, ['end']);
});

test('R-STREAM-10: an opening without an answer is reset after 30 s, and a late answer is dropped', (t) => {
  goesOn(t, (peer) => {
    const { sink } = openTo(peer);
    peer.advance(29_999);
    t.deepEqual(sink.events, []);
    peer.advance(1);
    t.deepEqual(sink.events, ['end open-timeout']);
    t.true(peer.takeTexts().includes('RESET 2 open-timeout'));
    peer.send(ACCEPT, 2);
    peer.sendData(2, 'late');
    peer.send(FIN, 2);
  });
});

test('R-STREAM-11: frames on an id that was never opened are protocol errors', (t) => {
  const payloads = new Map<number, Buffer | object>([
    [DATA, Buffer.from('x')],
    [CREDIT, Buffer.alloc(8)],
    [REFUSE, REASON],
    [STOP, REASON],
    [RESET, REASON],
  ]);
  for (const type of [ACCEPT, REFUSE, DATA, CREDIT, FIN, STOP, RESET]) {
    for (const id of [2, 3]) {
      endsWith(t, 'protocol-error', (peer) => {
        peer.sendOpen(1);
        peer.send(type, id, payloads.get(type));
      });
    }
  }
});

test('R-STREAM-11: frames for a stream that has ended are dropped, also for an id that was passed over', (t) => {
  goesOn(t, (peer) => {
    peer.sendOpen(5);
    peer.send(RESET, 5, REASON);
    openTo(peer);
    peer.send(REFUSE, 2, REASON);
    peer.log.take();
    for (const id of [2, 3, 5]) {
      peer.send(ACCEPT, id);
      peer.send(REFUSE, id, REASON);
      peer.sendData(id, 'late');
      peer.sendCredit(id, 1);
      peer.send(FIN, id);
      peer.send(STOP, id, REASON);
      peer.send(RESET, id, REASON);
    }
    t.deepEqual(peer.takeTexts(), []);
  });
});

test('a malformed frame is a protocol error even where its stream has ended', (t) => {
  endsWith(t, 'protocol-error', (peer) => {
    peer.sendOpen(1);
    peer.send(RESET, 1, REASON);
    peer.send(RESET, 1, {});
  });
});

test('R-CODE-3: the end of a session ends all its streams, also those that are held back', (t) => {
  const peer = FramePeer.established({ peerLimits: { streams: 1 } });
  const sinks = [openTo(peer).sink, openTo(peer).sink];
  peer.sendOpen(1);
  peer.log.take();
  peer.send(OPEN, 1, { service: 'echo' });
  for (const sink of sinks) t.deepEqual(sink.events, ['end protocol-error']);
  endedWith(t, peer, 'protocol-error');
});
